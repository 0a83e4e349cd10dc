import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { findClientPrograms, programVersion } from './programs.ts'

let directory: string

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'regain-programs-'))
})

after(() => rmSync(directory, { recursive: true }))

/** A folder with programs that say of themselves to be of `versions`. */
function folderOf(name: string, versions: Record<string, string>): string {
  const folder = join(directory, name)
  mkdirSync(folder)
  for (const [program, version] of Object.entries(versions))
    writeFileSync(join(folder, program), `#!/bin/sh\necho "${program} (PostgreSQL) ${version}"\n`, { mode: 0o755 })
  return folder
}

test('the oldest programs that are not too old are taken, but what is configured comes first', async () => {
  const newest = folderOf('newest', { pg_dump: '98.1', pg_restore: '98.1' })
  const right = folderOf('right', { pg_dump: '97.4', pg_restore: '97.4' })
  const old = folderOf('old', { pg_dump: '96.2', pg_restore: '96.2' })
  const half = folderOf('half', { pg_dump: '97.1', pg_restore: '96.2' })
  const alone = folderOf('alone', { pg_dump: '97.1' })
  const path = [alone, half, old, newest, right].join(':')
  const names = ['pg_dump', 'pg_restore']
  assert.deepEqual(await findClientPrograms(97, names, { path }), { directory: right, version: '97.4' })
  assert.deepEqual(await findClientPrograms(97, names, { directories: [old, newest], path }), {
    directory: newest,
    version: '98.1',
  })
  await assert.rejects(findClientPrograms(99, names, { directories: [alone], path }), {
    code: 'precondition-failed',
    message: new RegExp(`pg_dump and pg_restore of PostgreSQL 99 .*${alone}.*too old: .*96.2 in ${old}`),
    hint: /postgresql-client-99/,
  })
})

test('a program that is not there, is a folder or fails has no version', async () => {
  const folder = folderOf('odd', {})
  mkdirSync(join(folder, 'postgres'))
  writeFileSync(join(folder, 'failing'), '#!/bin/sh\necho "x (PostgreSQL) 15.1"\nexit 1\n', { mode: 0o755 })
  for (const name of ['absent', 'postgres', 'failing']) assert.equal(await programVersion(join(folder, name)), null)
})
