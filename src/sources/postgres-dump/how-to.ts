export const HOW_TO_PATH = 'restore.txt'

/** In every point: whoever has the files and nothing else must get his data back. */
export const HOW_TO = `Dumps of a PostgreSQL server. With PostgreSQL's own programs, not older than those that made the dumps:

Roles first (what is there already gives errors that mean nothing):
  psql -f globals.sql postgres

A database (names of folders: %XX is a byte of the name):
  createdb -T template0 shop
  pg_restore --section=pre-data -d shop databases/shop/database.dump
  pg_restore --section=data     -d shop databases/shop/database.dump
  pg_restore --data-only        -d shop databases/shop/table-1.dump      # and all other table-*.dump, if there are any
  pg_restore --section=post-data -j 4 -d shop databases/shop/database.dump

With the original's encoding, locale and settings, into a server without such a database: instead of createdb and the first line
  pg_restore --create --section=pre-data -d postgres databases/shop/database.dump
`
