import { createHash } from 'node:crypto'
import type pg from 'pg'

/**
 * One line for each definition of a database, in no order. Made so that a database has the same lines after pg_dump and
 * pg_restore, in a newer major version too: no oids, no attribute numbers, no owners and privileges (roles may be others),
 * and no expressions: the server writes some of them otherwise once they were read back (IN over varchar is one).
 * What belongs to an extension is the extension's. search_path must be empty, so that names of types are whole.
 */
const DEFINITIONS = `
with own_schema as (
  select oid, pg_catalog.quote_ident(nspname) as name from pg_catalog.pg_namespace
  where nspname !~ '^pg_' and nspname <> 'information_schema'
),
extended as (select classid, objid from pg_catalog.pg_depend where deptype = 'e'),
relation as (
  select c.*, n.name || '.' || pg_catalog.quote_ident(c.relname) as name
  from pg_catalog.pg_class c join own_schema n on n.oid = c.relnamespace
  where c.relpersistence <> 't'
    and not exists (select from extended e where e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and e.objid = c.oid)
)
select pg_catalog.concat_ws(' ', 'schema', name) as line from own_schema s
  where not exists (select from extended e where e.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and e.objid = s.oid)
union all
select pg_catalog.concat_ws(' ', 'extension', extname) from pg_catalog.pg_extension
union all
select pg_catalog.concat_ws(' ', 'relation', r.relkind, r.relpersistence, r.name, r.relispartition, r.relrowsecurity, r.relforcerowsecurity,
    pg_catalog.array_to_string(r.reloptions, ','),
    (select pg_catalog.string_agg(pn.nspname || '.' || pc.relname, ',' order by i.inhseqno) from pg_catalog.pg_inherits i
       join pg_catalog.pg_class pc on pc.oid = i.inhparent join pg_catalog.pg_namespace pn on pn.oid = pc.relnamespace where i.inhrelid = r.oid),
    (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname), pg_catalog.format_type(a.atttypid, a.atttypmod),
        a.attnotnull, a.atthasdef, a.attidentity, a.attgenerated,
        (select collname from pg_catalog.pg_collation l where l.oid = a.attcollation and l.collname <> 'default')), ', ' order by a.attnum)
     from pg_catalog.pg_attribute a where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped))
  from relation r where r.relkind in ('r', 'p', 'v', 'm', 'f', 'c')
union all
select pg_catalog.concat_ws(' ', 'sequence', r.name, pg_catalog.format_type(s.seqtypid, null), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)
  from pg_catalog.pg_sequence s join relation r on r.oid = s.seqrelid
union all
select pg_catalog.concat_ws(' ', 'constraint', o.contype, r.name, pg_catalog.quote_ident(o.conname), o.condeferrable, o.condeferred, o.convalidated,
    o.confupdtype, o.confdeltype, o.confmatchtype, f.name,
    (select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' order by k.n) from pg_catalog.unnest(o.conkey) with ordinality k (attnum, n)
       join pg_catalog.pg_attribute a on a.attrelid = o.conrelid and a.attnum = k.attnum),
    (select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' order by k.n) from pg_catalog.unnest(o.confkey) with ordinality k (attnum, n)
       join pg_catalog.pg_attribute a on a.attrelid = o.confrelid and a.attnum = k.attnum))
  from pg_catalog.pg_constraint o join relation r on r.oid = o.conrelid left join relation f on f.oid = o.confrelid
  where o.contype in ('c', 'f', 'p', 'u', 'x') and o.conparentid = 0
union all
select pg_catalog.concat_ws(' ', 'index', r.name, pg_catalog.quote_ident(x.relname), m.amname, i.indisunique, i.indisprimary, i.indisexclusion, i.indnkeyatts,
    i.indpred is not null, i.indoption,
    (select pg_catalog.string_agg(coalesce(pg_catalog.quote_ident(a.attname), '()'), ',' order by k.n)
     from pg_catalog.unnest(i.indkey::int2[]) with ordinality k (attnum, n)
       left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and a.attnum <> 0))
  from pg_catalog.pg_index i join relation r on r.oid = i.indrelid join pg_catalog.pg_class x on x.oid = i.indexrelid
    join pg_catalog.pg_am m on m.oid = x.relam
  where i.indisvalid
union all
select pg_catalog.concat_ws(' ', 'trigger', r.name, pg_catalog.quote_ident(t.tgname), t.tgtype, t.tgenabled, n.nspname, p.proname)
  from pg_catalog.pg_trigger t join relation r on r.oid = t.tgrelid join pg_catalog.pg_proc p on p.oid = t.tgfoid
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where not t.tgisinternal and t.tgparentid = 0
union all
select pg_catalog.concat_ws(' ', 'rule', r.name, pg_catalog.quote_ident(w.rulename), w.ev_type, w.is_instead)
  from pg_catalog.pg_rewrite w join relation r on r.oid = w.ev_class where w.rulename <> '_RETURN'
union all
select pg_catalog.concat_ws(' ', 'policy', r.name, pg_catalog.quote_ident(l.polname), l.polcmd, l.polpermissive)
  from pg_catalog.pg_policy l join relation r on r.oid = l.polrelid
union all
select pg_catalog.concat_ws(' ', 'function', p.prokind, n.name, pg_catalog.quote_ident(p.proname), pg_catalog.pg_get_function_identity_arguments(p.oid),
    pg_catalog.pg_get_function_result(p.oid), l.lanname, p.provolatile, p.proisstrict, p.prosecdef, p.proleakproof,
    pg_catalog.array_to_string(p.proconfig, ','), pg_catalog.md5(p.prosrc))
  from pg_catalog.pg_proc p join own_schema n on n.oid = p.pronamespace join pg_catalog.pg_language l on l.oid = p.prolang
  where not exists (select from extended e where e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and e.objid = p.oid)
    and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'i')
union all
select pg_catalog.concat_ws(' ', 'type', t.typtype, n.name, pg_catalog.quote_ident(t.typname), pg_catalog.format_type(t.typbasetype, t.typtypmod), t.typnotnull,
    (select pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ',' order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid),
    (select pg_catalog.format_type(g.rngsubtype, null) from pg_catalog.pg_range g where g.rngtypid = t.oid),
    (select pg_catalog.string_agg(pg_catalog.quote_ident(o.conname), ',' order by o.conname) from pg_catalog.pg_constraint o where o.contypid = t.oid and o.contype = 'c'))
  from pg_catalog.pg_type t join own_schema n on n.oid = t.typnamespace
  where t.typtype in ('d', 'e', 'r')
    and not exists (select from extended e where e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and e.objid = t.oid)
union all
select pg_catalog.concat_ws(' ', i.type, i.identity)
  from (
    select 'pg_catalog.pg_collation'::pg_catalog.regclass as class, oid from pg_catalog.pg_collation where collnamespace in (select oid from own_schema)
    union all select 'pg_catalog.pg_operator'::pg_catalog.regclass, oid from pg_catalog.pg_operator where oprnamespace in (select oid from own_schema)
    union all select 'pg_catalog.pg_ts_config'::pg_catalog.regclass, oid from pg_catalog.pg_ts_config where cfgnamespace in (select oid from own_schema)
    union all select 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, oid from pg_catalog.pg_statistic_ext where stxnamespace in (select oid from own_schema)
    union all select 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, oid from pg_catalog.pg_foreign_server
    union all select 'pg_catalog.pg_event_trigger'::pg_catalog.regclass, oid from pg_catalog.pg_event_trigger
    union all select 'pg_catalog.pg_publication'::pg_catalog.regclass, oid from pg_catalog.pg_publication
    union all select 'pg_catalog.pg_cast'::pg_catalog.regclass, oid from pg_catalog.pg_cast where oid >= 16384
  ) object cross join lateral pg_catalog.pg_identify_object(object.class, object.oid, 0) i
  where not exists (select from pg_catalog.pg_depend d where d.classid = object.class and d.objid = object.oid and d.deptype in ('e', 'i'))`

const ROWS_AT_A_TIME = 2000

/**
 * Sum modulo 2^256 of the SHA-256 of each line: neither the server nor we must sort a hundred thousand tables, whose order
 * would follow the collation. In an open transaction, with an empty search_path.
 */
export async function hashDefinitions(client: pg.Client): Promise<string> {
  await client.query(`declare regain_definitions no scroll cursor for ${DEFINITIONS}`)
  let sum = 0n
  for (;;) {
    const { rows } = await client.query<{ line: string }>(`fetch ${ROWS_AT_A_TIME} from regain_definitions`)
    for (const { line } of rows) sum += BigInt(`0x${createHash('sha256').update(line).digest('hex')}`)
    if (rows.length < ROWS_AT_A_TIME) break
  }
  await client.query('close regain_definitions')
  return (sum % 2n ** 256n).toString(16).padStart(64, '0')
}
