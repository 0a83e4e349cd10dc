import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { temporaryDirectory } from '../../../../test/support/postgres.ts'
import { MemoryLog } from '../../../../test/support/postgres-recorders.ts'
import { RegainError } from '../../../errors.ts'
import { segmentName } from '../log/wal.ts'
import { type LogFeeder, startFeeder } from './feeder.ts'
import { fetchLog } from './fetch.ts'
import { FEEDER_FILE, RECOVERY_FOLDER, recoveryScript } from './recovery-script.ts'

const MIB = 1024 * 1024
const UNTIL = { until: '2026-01-01T00:00:00Z' }
const name = (number: number): string => segmentName(1, BigInt(number), MIB)

async function logOf(count: number): Promise<MemoryLog> {
  const log = new MemoryLog()
  for (let n = 1; n <= count; n++) await log.putSegment('00000001', name(n), Buffer.alloc(MIB, n), UNTIL)
  return log
}

/** The beginning of a segment with its header: the size of segments at offset 32. */
function beginning(length: number): Buffer {
  const bytes = Buffer.alloc(length, 9)
  bytes.writeUInt32LE(MIB, 32)
  return bytes
}

/** Runs the script as the server would: in the data directory. Resolves to its exit status. */
function ask(directory: string, file: string, target: string): Promise<number> {
  return new Promise((resolve) => {
    execFile('sh', [`${RECOVERY_FOLDER}/fetch`, file, target], { cwd: directory }, (error) =>
      resolve(error ? Number(error.code) : 0),
    )
  })
}

async function dataDirectory(t: TestContext, command: string[], feeder?: LogFeeder): Promise<string> {
  const directory = await temporaryDirectory(t, 'regain test ')
  await mkdir(join(directory, RECOVERY_FOLDER))
  await writeFile(join(directory, RECOVERY_FOLDER, 'fetch'), recoveryScript(command))
  if (feeder) await writeFile(join(directory, RECOVERY_FOLDER, FEEDER_FILE), `${feeder.directory}\n`)
  return directory
}

test('a damaged segment stops only the recovery that asks for it', async (t) => {
  const log = await logOf(3)
  const { read } = log
  log.read = async (branch, wanted) => {
    if (wanted === name(3)) throw new RegainError('repository-damaged', 'It was changed.')
    return read.call(log, branch, wanted)
  }
  const feeder = await startFeeder({ store: log, user: null, guard: null, fed: () => undefined })
  t.after(() => feeder.close())
  const directory = await dataDirectory(t, ['false'], feeder)
  for (const n of [1, 2]) assert.equal(await ask(directory, name(n), 'RECOVERYXLOG'), 0)
  assert.equal(feeder.error(), null)
  assert.notEqual(await ask(directory, name(3), 'RECOVERYXLOG'), 0)
  assert.match(String(feeder.error()), /It was changed/)

  // The same without a feeder.
  const spool = join(directory, 'spool')
  const target = join(directory, 'RECOVERYXLOG')
  const request = { store: log, target, spool, guard: null, signal: t.signal }
  assert.equal(await fetchLog({ ...request, name: name(1) }), true)
  assert.deepEqual(await readdir(spool), [name(2)])
  await assert.rejects(fetchLog({ ...request, name: name(3) }), { code: 'repository-damaged' })
})

test('a feeder answers what is asked, fetches ahead, and says what there is not', async (t) => {
  const log = await logOf(40)
  await log.putTail('00000001', name(41), 0, beginning(5000), UNTIL)
  await log.putHistory('00000002.history', Buffer.from('1\t0/100\tx\n'))
  let fed = 0
  const feeder = await startFeeder({
    store: log,
    user: null,
    guard: null,
    fed: (bytes) => {
      fed += bytes
    },
  })
  t.after(() => feeder.close())
  const directory = await dataDirectory(t, ['false'], feeder)
  for (let n = 1; n <= 40; n++) {
    assert.equal(await ask(directory, name(n), 'RECOVERYXLOG'), 0)
    assert.ok((await readFile(join(directory, 'RECOVERYXLOG'))).equals(Buffer.alloc(MIB, n)))
    assert.ok((await readdir(feeder.directory)).length <= 20)
  }
  // The unfinished one is filled up with zeros.
  assert.equal(await ask(directory, name(41), 'RECOVERYXLOG'), 0)
  assert.ok(
    (await readFile(join(directory, 'RECOVERYXLOG'))).equals(
      Buffer.concat([beginning(5000), Buffer.alloc(MIB - 5000)]),
    ),
  )
  assert.equal(await ask(directory, name(42), 'RECOVERYXLOG'), 1)
  assert.equal(await ask(directory, '00000002.history', 'RECOVERYHISTORY'), 0)
  assert.equal(await ask(directory, '00000003.history', 'RECOVERYHISTORY'), 1)
  assert.equal(await ask(directory, '000000010000000000000001.00000028.backup', 'x'), 1)
  assert.ok(fed >= 41 * MIB)
  await feeder.close()
  await assert.rejects(stat(feeder.directory), { code: 'ENOENT' })
})

test('a store that fails stops recovery; it never looks like the end of the log', async (t) => {
  const log = await logOf(1)
  log.read = async () => {
    throw new Error('the key does not fit')
  }
  const feeder = await startFeeder({ store: log, user: null, guard: null, fed: () => undefined })
  t.after(() => feeder.close())
  const directory = await dataDirectory(t, ['false'], feeder)
  assert.equal(await ask(directory, name(1), 'x'), 255)
  assert.match(feeder.error()?.message ?? '', /does not fit/)
})

test('without a feeder the command is run, and only its own word for "absent" ends the log', async (t) => {
  const folder = await temporaryDirectory(t)
  const program = join(folder, "it's a program")
  await writeFile(program, '#!/bin/sh\n[ "$2" = 44 ] && exit 44\n[ "$2" = 1 ] && exit 1\necho "$*" > "$3"\n')
  await chmod(program, 0o755)
  const directory = await dataDirectory(t, [program, 'log'])
  assert.equal(await ask(directory, '44', 'x'), 1)
  assert.equal(await ask(directory, '1', 'x'), 255)
  assert.equal(await ask(await dataDirectory(t, [join(folder, 'missing')]), 'a', 'x'), 255)
  assert.equal(await ask(directory, 'seg', 'target'), 0)
  assert.equal(
    await readFile(join(directory, 'target'), 'utf8'),
    `log seg ${directory}/target --spool ${directory}/${RECOVERY_FOLDER}/spool --guard ${directory}/${RECOVERY_FOLDER}/guard.json\n`,
  )
})

test('fetching by command puts the next segments into the spool, which the script takes first', async (t) => {
  const log = await logOf(30)
  const directory = await dataDirectory(t, ['false'])
  const spool = join(directory, RECOVERY_FOLDER, 'spool')
  const fetch = (file: string): Promise<boolean> =>
    fetchLog({ store: log, name: file, target: join(directory, 'x'), spool, guard: null, signal: t.signal })
  assert.equal(await fetch(name(1)), true)
  assert.deepEqual(
    (await readdir(spool)).sort(),
    Array.from({ length: 16 }, (_, i) => name(i + 2)),
  )
  assert.equal(await ask(directory, name(2), 'y'), 0)
  assert.ok((await readFile(join(directory, 'y'))).equals(Buffer.alloc(MIB, 2)))
  assert.equal(await ask(directory, name(20), 'y'), 255)
  assert.equal(await fetch(name(31)), false)
  assert.equal(await fetch('00000002.history'), false)
})
