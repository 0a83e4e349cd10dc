import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createPostgresDumpSource } from '../../src/sources/postgres-dump/source.ts'
import { ODD_CONTENT, ODD_ROWS, ODD_SCHEMA } from '../support/odd-database.ts'
import { startPostgres, suiteScope, type TestPostgres } from '../support/postgres.ts'
import { testAmbient } from '../support/postgres-recorders.ts'
import { sourceContract } from './source.ts'

const execute = promisify(execFile)
/** Of another version than the server, as long as it is newer. */
const PROGRAMS = '/usr/lib/postgresql/15/bin'

const suite = suiteScope()
let shared: Promise<TestPostgres> | null = null
let copies = 0

sourceContract('postgres-dump', async () => {
  shared ??= startFilled()
  const postgres = await shared
  const open = (url: string) =>
    createPostgresDumpSource(
      { url, databases: ['shop'], exclude: [], unlogged: true, jobs: 3, fingerprint: true },
      // Most tables are large ones here.
      { ambient: testAmbient(), search: { directories: [PROGRAMS] }, path: '', environment: {}, largeTableBytes: 8192 },
    )
  return {
    source: open(postgres.url()),
    change: async () => {
      await inShop(postgres, "insert into parent select max(id) + 1, 'changed' from parent")
    },
    assertSame: async (directory) => {
      const copy = `copy_${copies++}`
      await postgres.query(`create database ${copy}`)
      const restore = (...args: string[]) =>
        execute(join(PROGRAMS, 'pg_restore'), ['--exit-on-error', '-d', postgres.url(copy), ...args])
      const folder = join(directory, 'databases/shop')
      const archive = join(folder, 'database.dump')
      await restore('--section=pre-data', archive)
      await restore('--section=data', archive)
      const large = (await readdir(folder)).filter((name) => name.startsWith('table-'))
      assert.ok(large.length > 0)
      for (const name of large) await restore('--data-only', join(folder, name))
      await restore('--section=post-data', archive)
      const client = await postgres.connect(copy)
      const { rows } = await client.query(ODD_CONTENT)
      await client.end()
      assert.deepEqual(rows, await inShop(postgres, ODD_CONTENT))
    },
    absent: async () => open('postgres://postgres@127.0.0.1:1/postgres'),
    refuses: [
      { kind: 'lsn', lsn: '0/1' },
      { kind: 'xid', xid: '7' },
      { kind: 'name', name: 'x' },
    ],
    dispose: async () => undefined,
  }
})

async function startFilled(): Promise<TestPostgres> {
  const postgres = await startPostgres(suite, { major: 14 })
  await postgres.query('create database shop')
  await inShop(postgres, ODD_SCHEMA)
  await inShop(postgres, ODD_ROWS)
  // What is large is told by the statistics.
  await inShop(postgres, 'vacuum analyze')
  return postgres
}

async function inShop(postgres: TestPostgres, sql: string): Promise<unknown[]> {
  const client = await postgres.connect('shop')
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}
