import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { inspect } from 'node:util'
import { type ErrorCode, isRegainError } from '../errors.ts'
import { createKeyFile, keyFileTooOpen, openKeyFile } from './file.ts'
import { keyFileText } from './key-file-text.ts'

/** What wrapped keys are bound to, where their service can. */
const ABOUT = { domain: '00112233445566778899aabbccddeeff', epoch: 1 }

describe('key file', () => {
  let parent: string
  let file: string

  beforeEach(async () => {
    parent = await mkdtemp(join(tmpdir(), 'regain-key-'))
    file = join(parent, 'keys', 'main.key')
    await mkdir(join(parent, 'keys'))
  })

  afterEach(() => rm(parent, { recursive: true }))

  it('is text that says what it is, for its owner only', async () => {
    const made = join(parent, 'new', 'folders', 'main.key')
    const kek = randomBytes(32)
    const copy = Buffer.from(kek)
    await createKeyFile(made, () => kek)
    const text = await readFile(made, 'utf8')
    assert.match(text, /^# The key to backups made by Regain.*keep a copy.*\nregain-key-1:[^\n]{44}:[0-9a-f]{8}\n$/s)
    assert.ok(text.includes(`:${copy.toString('base64')}:`))
    assert.equal(text, keyFileText(copy))
    assert.equal((await lstat(made)).mode, 0o100600)
    assert.equal((await lstat(join(parent, 'new', 'folders'))).mode, 0o40700)
    assert.deepEqual(kek, Buffer.alloc(32), 'the KEK is gone from memory')
  })

  it('is never overwritten', async () => {
    await createKeyFile(file, randomBytes)
    const before = await readFile(file)
    await rejectsWith('precondition-failed', createKeyFile(file, randomBytes))
    assert.deepEqual(await readFile(file), before)
    await rejectsWith('precondition-failed', createKeyFile(join(parent, 'keys'), randomBytes))
  })

  it('leaves nothing behind when it cannot be made', async () => {
    await writeFile(join(parent, 'a-file'), '')
    await rejectsWith('key-unavailable', createKeyFile(join(parent, 'a-file', 'main.key'), randomBytes))
    await asOrdinaryUser(parent, async () => {
      await chmod(join(parent, 'keys'), 0o500)
      await rejectsWith('not-permitted', createKeyFile(file, randomBytes))
    })
    assert.deepEqual(await readdir(join(parent, 'keys')), [])
  })

  it('is read as people and editors leave it', async () => {
    const text = keyFileText(Buffer.alloc(32, 7))
    for (const variant of [
      text,
      text.trimEnd(),
      text.replaceAll('\n', '\r\n'),
      `\uFEFF${text}`,
      `\n\n  ${text.split('\n').at(-2)}  \t\n\n# a note: ümlaut\n`,
    ]) {
      await writeFile(file, variant)
      const wrapped = await (await openKeyFile(file)).wrap(Buffer.alloc(32, 1), ABOUT)
      assert.equal(wrapped.wrapped, 'HuK4cea/Pw+na/T/JfJL7lxXXExDdoU5wBIt/+b0sIcMHcBWF5yeDw==')
    }
  })

  it('is refused when damaged, with words that hold no part of it', async () => {
    const text = keyFileText(Buffer.alloc(32, 7))
    const line = text.split('\n').at(-2)!
    const [tag, base64, check] = line.split(':') as [string, string, string]
    const damaged: [string, RegExp][] = [
      ['', /empty or was cut off/],
      ['# only a comment\n', /empty or was cut off/],
      [line.slice(0, -1), /not a key file/],
      [`${tag}:${base64.slice(1)}:${check}`, /not a key file/],
      [`regain-key-2:${base64}:${check}`, /not a key file/],
      [`${tag}:${base64.replace('B', 'C')}:${check}`, /does not match its check/],
      [`${tag}:${base64}:00000000`, /does not match its check/],
      [`${line}\n${line}\n`, /more than one line/],
      ['-----BEGIN PRIVATE KEY-----', /not a key file/],
      ['#'.repeat(100_000), /too large/],
    ]
    for (const [content, expected] of damaged) {
      await writeFile(file, content)
      const error = await rejectsWith('key-unavailable', openKeyFile(file))
      assert.match(error.message, expected)
      const everything = inspect(error, { depth: 10 })
      assert.ok(!everything.includes(base64.slice(0, 20)) && !everything.includes('PRIVATE'), everything)
      assert.ok(everything.includes(file))
    }
  })

  it('is refused when missing, unreadable, or no file', async () => {
    assert.match((await rejectsWith('key-unavailable', openKeyFile(file))).message, /does not exist/)
    await rejectsWith('key-unavailable', keyFileTooOpen(file))
    assert.match((await rejectsWith('key-unavailable', openKeyFile(parent))).message, /not a regular file/)
    execFileSync('mkfifo', [join(parent, 'fifo')])
    assert.match(
      (await rejectsWith('key-unavailable', openKeyFile(join(parent, 'fifo')))).message,
      /not a regular file/,
    )
    await createKeyFile(file, randomBytes)
    await asOrdinaryUser(parent, async () => {
      await chmod(file, 0)
      assert.match((await rejectsWith('key-unavailable', openKeyFile(file))).message, /EACCES/)
    })
  })

  it('is told when others can read or change it', async () => {
    await createKeyFile(file, randomBytes)
    for (const [mode, tooOpen] of [
      [0o600, false],
      [0o400, false],
      [0o711, false],
      [0o640, true],
      [0o604, true],
      [0o620, true],
    ] as const) {
      await chmod(file, mode)
      assert.equal(await keyFileTooOpen(file), tooOpen, mode.toString(8))
    }
  })
})

/** Rights do not bind root, so root lays them down for the while: for the calls of this test file's process only. */
async function asOrdinaryUser(parent: string, work: () => Promise<void>): Promise<void> {
  if (process.geteuid?.() !== 0) return work()
  const nobody = 65534
  for (const path of ['', ...(await readdir(parent, { recursive: true }))])
    await chown(join(parent, path), nobody, nobody)
  process.seteuid?.(nobody)
  try {
    await work()
  } finally {
    process.seteuid?.(0)
  }
}

async function rejectsWith(code: ErrorCode, outcome: Promise<unknown>): Promise<Error> {
  const error = await outcome.then(
    () => assert.fail(`expected ${code}`),
    (reason: unknown) => reason,
  )
  assert.ok(isRegainError(error), `expected ${code}, got ${error}`)
  assert.equal(error.code, code, error.message)
  return error
}
