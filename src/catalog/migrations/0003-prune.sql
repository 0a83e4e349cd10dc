-- What a prune removed. Its runs are of a repository, not of one source: their source is the empty text.
alter table runs add column removed_points integer;
alter table runs add column removed_bytes integer;
