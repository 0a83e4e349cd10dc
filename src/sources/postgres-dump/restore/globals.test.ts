import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseGlobals, statementsOf } from './globals.ts'

const SQL = `--
-- PostgreSQL database cluster dump
--
\\restrict abc
SET client_encoding = 'UTF8';
CREATE ROLE "Odd ""role; x";
ALTER ROLE "Odd ""role; x" WITH NOSUPERUSER PASSWORD 'SCRAM-SHA-256$4096:a;b''c';
CREATE ROLE plain;
COMMENT ON ROLE plain IS 'it''s; -- no comment
\\second line';
ALTER ROLE plain SET search_path TO E'a\\'b;', 'c';
GRANT "Odd ""role; x" TO plain WITH ADMIN OPTION GRANTED BY postgres;
GRANT SET ON PARAMETER work_mem TO plain;
CREATE TABLESPACE "Fast disk" OWNER postgres LOCATION '/mnt/fast';
\\unrestrict abc
`

test('statements are told apart by their semicolons, not by those in texts, names and comments', () => {
  assert.deepEqual(
    statementsOf(SQL).map((one) => one.split(/[\s']/).slice(0, 2).join(' ')),
    [
      'SET client_encoding',
      'CREATE ROLE',
      'ALTER ROLE',
      'CREATE ROLE',
      'COMMENT ON',
      'ALTER ROLE',
      'GRANT "Odd',
      'GRANT SET',
      'CREATE TABLESPACE',
    ],
  )
})

test('roles, what is about them, and tablespaces', () => {
  const { roles, others, tablespaces } = parseGlobals(SQL)
  assert.deepEqual(
    roles.map(({ name, statements }) => [name, statements.length]),
    [
      ['Odd "role; x', 2],
      ['plain', 3],
    ],
  )
  assert.deepEqual(
    others.map(({ role }) => role),
    ['plain', 'plain'],
  )
  assert.deepEqual(tablespaces, ['Fast disk'])
})
