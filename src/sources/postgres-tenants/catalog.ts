import type pg from 'pg'

/** What the server's catalogs say of tables and the keys between them; partitions are part of their table. */
export interface Catalog {
  tables: Table[]
  keys: ForeignKey[]
}

export interface Table {
  oid: number
  schema: string
  name: string
  /** SCHEMA.TABLE, quoted as SQL needs it. */
  text: string
  isPartitioned: boolean
  isUnlogged: boolean
  columns: Column[]
  /** Columns that tell its rows apart: the primary key, or a unique key that knows no null; null: there is none. */
  key: string[] | null
  /** May be read by this role. */
  isReadable: boolean
}

export interface Column {
  name: string
  /** As SQL writes it, such as numeric(10,2). */
  type: string
  notNull: boolean
  hasDefault: boolean
  /** Of a domain what it is made of; without a length, which a cast would cut values to. */
  baseType: string
  /** Oid of a collation that takes different texts for equal; null: none does. */
  looseCollation: number | null
  /** Computed by the server, and never written. */
  isGenerated: boolean
  identity: '' | 'always' | 'default'
  isCollatable: boolean
  /** Operator that tells whether two of its values are equal, such as operator(pg_catalog.=). */
  equals: string
}

export interface ForeignKey {
  name: string
  /** Oids. */
  child: number
  parent: number
  columns: string[]
  parentColumns: string[]
  /** parent OPERATOR child, for each pair of columns. */
  operators: string[]
}

/** Tables that one can have rows of one's own in, without those of extensions. */
const WANTED = `c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and not exists (select from pg_catalog.pg_depend d
    where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e')`

const OPERATOR = `pg_catalog.format('operator(%I.%s)', n.nspname, o.oprname)`

const KEY = `k.conname as name, k.conrelid::int8::float8 as child, k.confrelid::int8::float8 as parent,
  array(select a.attname::text from pg_catalog.unnest(k.conkey) with ordinality as u (attnum, at)
    join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum order by u.at) as columns,
  array(select a.attname::text from pg_catalog.unnest(k.confkey) with ordinality as u (attnum, at)
    join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum order by u.at) as "parentColumns",
  array(select ${OPERATOR} from pg_catalog.unnest(k.conpfeqop) with ordinality as u (operator, at)
    join pg_catalog.pg_operator o on o.oid = u.operator join pg_catalog.pg_namespace n on n.oid = o.oprnamespace order by u.at) as operators`

/** Keys of PostgreSQL 18 over periods ask for cover by several rows, which is no reference to one, and act on nothing. */
const IS_KEY = `k.contype = 'f' and k.conparentid = 0 and coalesce(pg_catalog.to_jsonb(k) ->> 'conperiod', 'false') = 'false'`

/** A key of anything that refers to a table or to one of its partitions: of single partitions as well, and of tables that no rule reaches. */
export interface ReferringKey extends ForeignKey {
  /** What has the key, as it stands after FROM. */
  childText: string
  /** The table that `child` is a partition of; else itself. */
  childTable: number
}

export async function readReferringKeys(client: pg.Client, table: Table): Promise<ReferringKey[]> {
  const { rows } = await client.query<ReferringKey>(
    `select ${KEY}, coalesce(pg_catalog.pg_partition_root(c.oid)::oid, c.oid)::int8::float8 as "childTable",
       case c.relkind when 'p' then '' else 'only ' end || c.oid::regclass::text as "childText"
     from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid
     where ${IS_KEY} and (k.confrelid = $1::oid or k.confrelid in (select t.relid from pg_catalog.pg_partition_tree($1::oid::regclass) t))
     order by k.conrelid, k.conkey, k.oid`,
    [table.oid],
  )
  return rows
}

export async function readCatalog(client: pg.Client): Promise<Catalog> {
  const tables = await client.query<Table>(
    `select c.oid::int8::float8 as oid, n.nspname as schema, c.relname as name,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as text,
       c.relkind = 'p' as "isPartitioned", c.relpersistence = 'u' as "isUnlogged",
       pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select') as "isReadable",
       (select array(select a.attname::text from pg_catalog.unnest(i.indkey) with ordinality as k (attnum, at)
           join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum where k.at <= i.indnkeyatts order by k.at)
         from pg_catalog.pg_index i
         where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
           and not exists (select from pg_catalog.unnest(i.indkey) with ordinality as k (attnum, at)
             join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum where k.at <= i.indnkeyatts and not a.attnotnull)
         order by i.indisprimary desc, i.indnkeyatts, i.indexrelid limit 1) as key
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where ${WANTED} order by n.nspname, c.relname`,
  )
  const columns = await client.query<{ oid: number; columns: Column[] }>(
    `select c.oid::int8::float8 as oid, pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname,
       'type', pg_catalog.format_type(a.atttypid, a.atttypmod), 'notNull', a.attnotnull, 'hasDefault', a.atthasdef,
       'isGenerated', a.attgenerated <> '', 'identity', case a.attidentity when 'a' then 'always' when 'd' then 'default' else '' end,
       'isCollatable', a.attcollation <> 0,
       'baseType', pg_catalog.format_type(b.base, -1),
       'looseCollation', (select l.oid::int8 from pg_catalog.pg_collation l where l.oid = a.attcollation and not l.collisdeterministic),
       'equals', coalesce((select ${OPERATOR}
           from pg_catalog.pg_opclass oc join pg_catalog.pg_am m on m.oid = oc.opcmethod and m.amname = 'btree'
             join pg_catalog.pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amopstrategy = 3
               and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
             join pg_catalog.pg_operator o on o.oid = ao.amopopr join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
           where oc.opcdefault and oc.opcintype = b.base limit 1), 'operator(pg_catalog.=)'))
       order by a.attnum) as columns
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
       join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       cross join lateral (with recursive chain (base, next) as (select a.atttypid, (select t.typbasetype from pg_catalog.pg_type t where t.oid = a.atttypid)
         union all select chain.next, (select t.typbasetype from pg_catalog.pg_type t where t.oid = chain.next) from chain where chain.next <> 0)
         select base from chain where next = 0) b
     where ${WANTED} group by c.oid`,
  )
  const columnsOf = new Map(columns.rows.map((row) => [row.oid, row.columns]))
  const keys = await client.query<ForeignKey>(
    `select ${KEY} from pg_catalog.pg_constraint k where ${IS_KEY} order by k.conrelid, k.conkey, k.oid`,
  )
  const known = new Set(tables.rows.map(({ oid }) => oid))
  return {
    tables: tables.rows.map((table) => ({ ...table, columns: columnsOf.get(table.oid) ?? [] })),
    keys: keys.rows.filter(({ child, parent }) => known.has(child) && known.has(parent)),
  }
}
