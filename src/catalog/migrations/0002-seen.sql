-- What this machine saw last at each place of a service's repository, so that a store that was set back, or exchanged,
-- is noticed: nothing inside the store can tell.
create table seen_repositories (
  service text not null,
  location text not null,
  id text not null,
  seen_at integer not null,
  primary key (service, location)
) strict, without rowid;

-- The newest point of each source there; and those that were seen so and were found gone, until a person accepts it.
create table seen_points (
  service text not null,
  location text not null,
  source text not null,
  point text not null,
  -- RFC 3339, by the clock of the host that took it.
  committed_at text not null,
  is_lost integer not null,
  primary key (service, location, point)
) strict, without rowid;
