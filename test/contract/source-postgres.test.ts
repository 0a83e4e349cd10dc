import assert from 'node:assert/strict'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createPostgresSource } from '../../src/sources/postgres/source.ts'
import { startPostgres, suiteScope, type TestPostgres, temporaryDirectory, testPostgres } from '../support/postgres.ts'
import { MemoryLog, testAmbient } from '../support/postgres-recorders.ts'
import { sourceContract } from './source.ts'

/** One server for all of the suite: each source has a log of its own. */
const suite = suiteScope()
let shared: Promise<TestPostgres> | null = null
let sources = 0

sourceContract('postgres', async () => {
  shared ??= startFilled()
  const postgres = await shared
  const log = new MemoryLog()
  const logFolder = await temporaryDirectory(suite)
  const slot = `contract_${sources++}`
  const open = (url: string) =>
    createPostgresSource(
      { url, log: 'none', slot },
      {
        log,
        ambient: testAmbient(),
        fetchCommand: ['sh', '-c', `[ -f '${logFolder}'/"$1" ] || exit 44; cp '${logFolder}'/"$1" "$2"`, 'fetch'],
        search: { directories: [postgres.binaries.directory] },
      },
    )
  return {
    source: open(postgres.url()),
    change: async () => {
      await postgres.query("insert into kept select max(n) + 1, 'changed' from kept")
    },
    assertSame: async (directory) => {
      await exportLog(log, logFolder)
      const copy = testPostgres(suite, postgres.binaries, directory)
      await copy.start()
      try {
        assert.deepEqual(await contentOf(copy), await contentOf(postgres))
      } finally {
        await copy.stop()
      }
    },
    absent: async () => open('postgres://postgres@127.0.0.1:1/postgres'),
    refuses: [
      { kind: 'time', time: '2100-01-01T00:00:00Z' },
      { kind: 'lsn', lsn: 'FF/0' },
      { kind: 'xid', xid: '4000000000' },
      { kind: 'name', name: 'never made' },
    ],
    dispose: async () => undefined,
  }
})

async function startFilled(): Promise<TestPostgres> {
  const postgres = await startPostgres(suite, { walSegmentMegabytes: 1 })
  await postgres.query('create table kept as select g as n, md5(g::text) as text from generate_series(1, 1000) g')
  return postgres
}

function contentOf(postgres: TestPostgres): Promise<unknown[]> {
  return postgres.query("select count(*)::int, max(n), md5(string_agg(text, ',' order by n)) from kept")
}

/** As plain files, for the restore_command of a copy that is started by hand. */
async function exportLog(log: MemoryLog, folder: string): Promise<void> {
  for (const [key, { bytes }] of log.segments) {
    const path = join(folder, key.slice(key.indexOf('/') + 1))
    await writeFile(path, bytes)
    await chmod(path, 0o644)
  }
}
