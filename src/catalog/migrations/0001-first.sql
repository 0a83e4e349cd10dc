-- What was done: one row for each run of an operation. Times are milliseconds since the epoch.
create table runs (
  id integer primary key,
  operation text not null,
  service text not null,
  source text not null,
  destination text,
  kind text,
  -- Who began it: 'command', 'schedule', or 'repository' when it was learned from a point found there.
  origin text not null,
  pid integer,
  started_at integer not null,
  ended_at integer,
  outcome text not null check (outcome in ('running', 'complete', 'partial', 'failed', 'interrupted')),
  point text,
  bytes_source integer,
  bytes_read integer,
  bytes_new integer,
  bytes_stored integer,
  files integer,
  missed integer not null default 0,
  error_code text,
  error_message text
) strict;

create index runs_by_source on runs (service, source, started_at);
create unique index runs_by_point on runs (service, source, point) where point is not null and operation = 'backup';

-- Where each follower of a log stands; one row a source, the newest word.
create table followers (
  service text not null,
  source text not null,
  state text not null check (state in ('connecting', 'streaming', 'waiting', 'stopped')),
  durable text,
  server text,
  lag_bytes integer,
  -- RFC 3339, in the words of the source's own clock.
  durable_until text,
  restarts integer not null,
  error_code text,
  error_message text,
  retry_at integer,
  updated_at integer not null,
  primary key (service, source)
) strict, without rowid;

-- The daemon, if one ran: at most one row.
create table daemon (
  one integer primary key check (one = 1),
  pid integer not null,
  version text not null,
  config text not null,
  started_at integer not null,
  heartbeat_at integer not null,
  stopped_at integer
) strict;
