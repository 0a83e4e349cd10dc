import type pg from 'pg'
import type { Missed } from '../../../model.ts'
import { type ChosenParts, tableName } from './selection.ts'

/** Something that chosen tables refer to and that is not dumped with them: it must be there where they go. */
export interface Need {
  /** 'type public.mood', for people. */
  description: string
  /** As pg_get_object_address takes it. */
  type: string
  names: string[]
  args: string[]
}

/** What tables need of others: types, functions, schemas, tables that foreign keys refer to. Whole schemas are not looked through. */
export async function findNeeds(client: pg.Client, { tables }: ChosenParts): Promise<Need[]> {
  if (tables.length === 0) return []
  const { rows } = await client.query<Need>(NEEDS, [tables.map(({ oid }) => oid)])
  return rows
}

/**
 * Objects below oid 16384 are every server's own. `own`: what is dumped with the tables, being a part of them. An
 * object of an extension is there if the extension is.
 */
const NEEDS = `
with chosen as (select oid from pg_catalog.unnest($1::pg_catalog.oid[]) as c (oid)),
own as (
  select oid from chosen
  union select indexrelid from pg_catalog.pg_index where indrelid in (select oid from chosen)
  union select d.objid from pg_catalog.pg_depend d join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'
    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      and d.deptype in ('a', 'i') and d.refobjid in (select oid from chosen)
),
parts (classid, objid) as (
  select 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, oid from own
  union select 'pg_catalog.pg_attrdef'::pg_catalog.regclass, oid from pg_catalog.pg_attrdef where adrelid in (select oid from chosen)
  union select 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid from pg_catalog.pg_constraint where conrelid in (select oid from chosen)
  union select 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid from pg_catalog.pg_trigger where tgrelid in (select oid from chosen) and not tgisinternal
  union select 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid from pg_catalog.pg_rewrite where ev_class in (select oid from chosen)
  union select 'pg_catalog.pg_policy'::pg_catalog.regclass, oid from pg_catalog.pg_policy where polrelid in (select oid from chosen)
)
select distinct i.type || ' ' || i.identity as description, a.type, a.object_names as names, a.object_args as args
from pg_catalog.pg_depend d
join parts p on p.classid = d.classid and p.objid = d.objid
left join pg_catalog.pg_class c on d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and c.oid = d.refobjid
left join pg_catalog.pg_type t on d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass and t.oid = d.refobjid
cross join lateral pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0) i
cross join lateral pg_catalog.pg_identify_object_as_address(d.refclassid, d.refobjid, 0) a
where d.refobjid >= 16384
  and d.refclassid in ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass,
    'pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_namespace'::pg_catalog.regclass,
    'pg_catalog.pg_collation'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass,
    'pg_catalog.pg_opclass'::pg_catalog.regclass, 'pg_catalog.pg_ts_config'::pg_catalog.regclass,
    'pg_catalog.pg_foreign_server'::pg_catalog.regclass, 'pg_catalog.pg_am'::pg_catalog.regclass)
  and (c.oid is null or (c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.oid not in (select oid from own)))
  and (t.oid is null or t.typrelid not in (select oid from own))
  and (t.oid is null or not exists (
    select from pg_catalog.pg_type e where e.oid = t.typelem and e.typarray = t.oid and e.typrelid in (select oid from own)))
order by 1`

const MOST_UNLOGGED = 100

/** Tables whose rows are in no physical backup, because no log was written of them. */
export async function findUnlogged(client: pg.Client, { schema, tables }: ChosenParts): Promise<Missed[]> {
  const { rows } = await client.query<{ schema: string; name: string }>(
    `select n.nspname as schema, c.relname as name
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relpersistence = 'u' and c.relkind = 'r' and n.nspname !~ '^pg_'
       and ($1::text is null or n.nspname = $1)
       and ($2::pg_catalog.oid[] is null or c.oid = any($2::pg_catalog.oid[]))
     order by 1, 2 limit ${MOST_UNLOGGED}`,
    [schema, tables.length === 0 ? null : tables.map(({ oid }) => oid)],
  )
  return rows.map((table) => ({
    path: tableName(table),
    reason: 'unsupported',
    detail: 'It is unlogged: physical backups hold its definition, and none of its rows.',
  }))
}
