import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeRunDirectoryIn, RUN_FOLDER } from './run-directory.ts'

test('a run folder lies in its data directory, where a socket has room, in the place of an older one', async (t) => {
  const parent = await mkdtemp(join(tmpdir(), 'regain-run-'))
  t.after(() => rm(parent, { recursive: true }))
  const first = await makeRunDirectoryIn(parent, null)
  assert.equal(first?.directory, join(parent, RUN_FOLDER))
  assert.equal((await stat(first.private)).mode & 0o777, 0o700)
  await writeFile(join(first.directory, 'log'), 'old')
  const second = await makeRunDirectoryIn(parent, null)
  assert.deepEqual(await readdir(second?.directory ?? ''), ['s'])

  // The longest that fits: 107 bytes with the name of the socket's lock file below it.
  const room = 107 - '/.s.PGSQL.65535.lock'.length - `/${RUN_FOLDER}/s`.length
  const fits = join(parent, 'd'.repeat(room - parent.length - 1))
  const tooLong = `${fits}x`
  for (const directory of [fits, tooLong]) await mkdir(directory)
  assert.notEqual(await makeRunDirectoryIn(fits, null), null)
  assert.equal(await makeRunDirectoryIn(tooLong, null), null)
  assert.deepEqual(await readdir(tooLong), [])
})
