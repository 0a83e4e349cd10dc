/** A schema of what dumps and restores have got wrong before, and rows for it; on PostgreSQL 13 and later. */
export const ODD_SCHEMA = `
create extension if not exists hstore;
create type public.mood as enum ('glad', 'sad', 'it''s "odd"');
create type public.pair as (a int, b text);
create domain public.posint as int check (value > 0);
create type public.floatrange as range (subtype = float8);
create sequence public.numbers start 41;
create table public.odd (
  id bigint generated always as identity primary key,
  number bigint default nextval('public.numbers'), word text collate "C", j json, jb jsonb, raw bytea, list int[][], words text[],
  mood public.mood, pair public.pair, pos public.posint, span int4range, times tstzrange, custom public.floatrange,
  r real, d double precision, n numeric, m money, i interval, ts timestamptz, dt date, tm timetz, u uuid, ip inet, net cidr, mac macaddr,
  bits bit varying, fixed bit(5), x xml, tsv tsvector, tsq tsquery, p point, path path, poly polygon, h hstore, c "char", bp char(7),
  doubled bigint generated always as (id * 2) stored
);
create table public.parent (id int primary key, note text);
create table public.child (id int primary key, parent int not null references public.parent on delete cascade);
create index child_odd on public.child ((parent + 1)) where id > 1;
create schema "Sales.*";
create table "Sales.*"."Odd ""name" (n int, region text not null, primary key (n, region)) partition by list (region);
create table "Sales.*".north partition of "Sales.*"."Odd ""name" for values in ('n');
create table "Sales.*".south partition of "Sales.*"."Odd ""name" for values in ('s');
create unlogged table public.scratch (n int);
create view public.glad as select id, word from public.odd where mood = 'glad';
create materialized view public.counted as select count(*) as n from public.odd;
create function public.touch() returns trigger language plpgsql as $f$ begin new.note := coalesce(new.note, 'touched'); return new; end $f$;
create trigger touch before insert on public.parent for each row execute function public.touch();
create table public.checked (status varchar(10) check (status in ('open', 'closed')));
comment on table public.odd is E'a comment\\nof two lines; -- and more';
`

export const ODD_ROWS = `
insert into public.odd (word, j, jb, raw, list, words, mood, pair, pos, span, times, custom, r, d, n, m, i, ts, dt, tm, u, ip, net, mac, bits, fixed, x, tsv, tsq, p, path, poly, h, c, bp)
values
 (E'tab\\t nl\\n cr\\r bs\\\\ \\u00e9', '{"a" :  1, "a": 2}', '{"b": [1, null, "\\\\u00e9"]}', '\\\\x00ff00', '{{1,2},{3,null}}', array['', null, 'NULL', 'a,b', '"q"', E'\\\\'],
  'it''s "odd"', row(1, 'x,(")'), 7, '[1,5)', '[2026-01-01 00:00:00+00,infinity)', '[1.5,2.5]', 'NaN', '-0', 'NaN', 12.34, '1 year -2 mons 3 days -04:05:06.789',
  'infinity', '-infinity', '12:34:56.789+05:45', '00112233-4455-6677-8899-aabbccddeeff', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', B'10101', B'00001',
  '<a b="c">&lt;d/&gt;</a>', 'a:1A b:2,3B', 'a & !b', '(1.1,-2)', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))', 'k=>v, "x y"=>NULL', 'z', 'pad'),
 (null, 'null', 'null', '', '{}', '{}', 'glad', row(null, ''), 1, 'empty', null, null, 'Infinity', '5e-324', '123456789012345678901234567890.00', -0.01, '-178000000 years',
  '4713-01-01 00:00:00+00 BC', '5874897-12-31', null, null, '::1', '::/0', null, '', B'11111', null, null, null, null, null, null, null, '', '');
insert into public.odd (word, d, r) select 'row ' || g, g / 7.0::float8, g / 3.0::real from generate_series(1, 2000) g;
insert into public.parent (id) select generate_series(1, 20);
insert into public.child select g, 1 + g % 20 from generate_series(1, 40) g;
insert into "Sales.*"."Odd ""name" select g, case g % 2 when 0 then 'n' else 's' end from generate_series(1, 100) g;
insert into public.scratch select generate_series(1, 5);
insert into public.checked values ('open'), (null);
refresh materialized view public.counted;
select lo_from_bytea(4711, decode(repeat('00ff0a5c', 5000), 'hex'));
comment on large object 4711 is 'large';
select setval('public.numbers', 4711, false);
`

/** Everything in it, as text that differs if anything does. */
export const ODD_CONTENT = `
select 'odd' as what, md5(string_agg(o::text, E'\\n' order by id)) as value from public.odd o
union all select 'raw', string_agg(encode(raw, 'hex'), ',' order by id) from public.odd
union all select 'minus zero', string_agg(encode(float8send(d), 'hex'), ',' order by id) from public.odd where id < 3
union all select 'child', md5(string_agg(c::text, ',' order by id)) from public.child c
union all select 'parent', md5(string_agg(c::text, ',' order by id)) from public.parent c
union all select 'parted', md5(string_agg(c::text || tableoid::regclass, ',' order by n)) from "Sales.*"."Odd ""name" c
union all select 'scratch', count(*)::text from public.scratch
union all select 'checked', count(*)::text from public.checked
union all select 'counted', n::text from public.counted
union all select 'sequence', last_value || ' ' || is_called from public.numbers
union all select 'identity', pg_get_serial_sequence('public.odd', 'id')
union all select 'large object', md5(lo_get(4711)) || obj_description(4711, 'pg_largeobject')
union all select 'comment', obj_description('public.odd'::regclass)
union all select 'index', pg_get_indexdef('public.child_odd'::regclass)
union all select 'keys', string_agg(conname, ',' order by conname) from pg_constraint where connamespace = 'public'::regnamespace and contype <> 'n'
union all select 'triggers', string_agg(tgname, ',' order by tgname) from pg_trigger where not tgisinternal
order by 1`
