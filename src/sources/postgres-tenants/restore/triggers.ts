import type pg from 'pg'
import { quoteIdentifier } from '../../postgres/protocol/connection-errors.ts'
import type { Pair } from './target.ts'

export interface Trigger {
  /** Quoted. */
  table: string
  name: string
  /** As in pg_trigger.tgenabled. */
  enabled: 'O' | 'A'
  /** The role owns the table: then it can be held back for the transaction, without a superuser. */
  isOurs: boolean
}

/** Triggers of the application that would do more than write the rows. Those behind keys are the server's own, and always run. */
export async function findTriggers(client: pg.Client, pairs: readonly Pair[]): Promise<Trigger[]> {
  const { rows } = await client.query<Trigger>(
    `select c.oid::regclass::text as table, t.tgname::text as name, t.tgenabled::text as enabled,
       pg_catalog.pg_has_role(c.relowner, 'usage') as "isOurs"
     from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
     where not t.tgisinternal and t.tgparentid = 0 and t.tgenabled in ('O', 'A')
       and exists (select from pg_catalog.unnest($1::oid[]) as w (oid)
         where c.oid = w.oid or c.oid in (select p.relid from pg_catalog.pg_partition_tree(w.oid::regclass) p))
     order by 1, 2`,
    [pairs.map(({ to }) => to.oid)],
  )
  return rows
}

/** Until the transaction ends, however it ends, or `release` is called. */
export async function holdBack(client: pg.Client, triggers: readonly Trigger[]): Promise<{ release(): Promise<void> }> {
  const held = triggers.filter(({ isOurs }) => isOurs)
  for (const { table, name } of held)
    await client.query(`alter table ${table} disable trigger ${quoteIdentifier(name)}`)
  return {
    async release() {
      for (const { table, name, enabled } of held)
        await client.query(
          `alter table ${table} enable ${enabled === 'A' ? 'always ' : ''}trigger ${quoteIdentifier(name)}`,
        )
    },
  }
}
