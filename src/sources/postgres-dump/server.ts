import { RegainError } from '../../errors.ts'
import { withSql } from '../postgres/protocol/connection.ts'
import { type ConnectionConfig, describeConnection } from '../postgres/protocol/connection-url.ts'
import { readServerFacts, type ServerFacts } from '../postgres/server/server-facts.ts'

export interface ServerOfDumps extends ServerFacts {
  /** To be dumped, by name. */
  databases: string[]
  /** Asked for, and not there. */
  absent: string[]
  isSuperuser: boolean
  /** Row security does not hold it back. */
  bypassesRowSecurity: boolean
  canReadPasswords: boolean
}

/** `wanted`: names; empty: all that take connections and are no templates. */
export async function readServer(
  config: ConnectionConfig,
  wanted: readonly string[],
  signal: AbortSignal,
): Promise<ServerOfDumps> {
  const facts = await readServerFacts(config, signal)
  return withSql(config, signal, async (client) => {
    const { rows } = await client.query<{ name: string; open: boolean; template: boolean }>(
      'select datname as name, datallowconn as open, datistemplate as template from pg_catalog.pg_database order by datname',
    )
    const rights = await client.query<{ super: boolean; bypasses: boolean; passwords: boolean }>(
      `select rolsuper as super, rolsuper or rolbypassrls as bypasses,
         pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'select') as passwords
       from pg_catalog.pg_roles where rolname = current_user`,
    )
    const [right] = rights.rows
    if (right === undefined) throw new RegainError('source-unavailable', `${describeConnection(config)}: who are we?`)
    const open = rows.filter((row) => row.open)
    const databases =
      wanted.length === 0 ? open.filter((row) => !row.template) : open.filter((row) => wanted.includes(row.name))
    return {
      ...facts,
      databases: databases.map(({ name }) => name),
      absent: wanted.filter((name) => !databases.some((row) => row.name === name)),
      isSuperuser: right.super,
      bypassesRowSecurity: right.bypasses,
      canReadPasswords: right.passwords,
    }
  })
}
