import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { deriveKek } from '../../src/keys/argon2id.ts'
import type { KeyProvider } from '../../src/keys/contract.ts'
import { createKeyFile, openKeyFile } from '../../src/keys/file.ts'
import { kekId, wrapKey } from '../../src/keys/key-wrap.ts'
import type { Ambient, Entry } from '../../src/model.ts'
import type { Repository } from '../../src/repository/api.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { createFilesSource } from '../../src/sources/files/source.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import { describeTree, diffTrees, makeOddities, noise, removeTree } from '../support/oddities.ts'
import { backUp, createTestRepository, writeTree } from '../support/repository.ts'

/**
 * The promise of docs/format.md: with a repository and its key, and no Regain at all, everything comes back. A repository
 * is made, copied elsewhere, everything else is removed, and the recover.py that the copy carries does the rest.
 */
const KIB = 1024
const MIB = 1024 * KIB
const PASSPHRASE = 'cafe\u0301 and a key'
const SEGMENT_BYTES = MIB

const signal = new AbortController().signal
const ambient: Ambient = { now: () => Date.now(), randomBytes, log: () => undefined }
const directory = mkdtempSync(join(tmpdir(), 'regain-recover-'))
const at = (name: string) => join(directory, name)

let tree: string[] = []
let database: string[] = []
const points: Record<string, string> = {}
const segments = [noise(SEGMENT_BYTES, 11), Buffer.alloc(SEGMENT_BYTES, 'log '), noise(SEGMENT_BYTES, 12)]

describe('recover.py', { concurrency: false }, () => {
  before(async () => {
    await makeRepository()
    cpSync(at('made'), at('copy'), { recursive: true })
    removeTree(at('made'))
    removeTree(at('source'))
    removeTree(at('database'))
  })

  after(() => removeTree(directory))

  test('lists points and logs', () => {
    const { stdout, status } = recover('list', '--key', at('main.key'))
    assert.equal(status, 0)
    for (const id of Object.values(points)) assert.match(stdout, new RegExp(`^${id.slice(0, 12)} `, 'm'))
    assert.match(stdout, /log of db: 2 segments, \w{24} to \w{24}, 1 unfinished/)
  })

  test('restores a tree of every oddity, attribute by attribute', async () => {
    const { status, stderr } = recover('files', '--key', at('main.key'), points.files!, at('files-back'))
    assert.equal(status, 0, stderr)
    assert.deepEqual(diffTrees(tree, await describeTree(at('files-back'))), [])
  })

  test('restores long files by their chunk lists, and sparse ones', async () => {
    const { status, stderr } = recover('files', '--key', at('main.key'), points.db!, at('database-back'))
    assert.equal(status, 0, stderr)
    assert.deepEqual(diffTrees(database, await describeTree(at('database-back'))), [])
  })

  test('gives segments whole, the unfinished one padded, and histories', () => {
    const { status, stderr } = recover('log', '--key', at('main.key'), 'db', at('log-back'))
    assert.equal(status, 0, stderr)
    assert.deepEqual(
      readdirSync(at('log-back')).sort(),
      [segmentName(1), segmentName(2), segmentName(3), '00000002.history'].sort(),
    )
    const back = (number: number) => readFileSync(join(at('log-back'), segmentName(number)))
    // Not deepEqual: to show how megabytes differ takes it minutes.
    assert.ok(back(1).equals(segments[0]!))
    assert.ok(back(2).equals(segments[1]!))
    const padded = Buffer.alloc(SEGMENT_BYTES)
    segments[2]!.copy(padded, 0, 0, 700 * KIB)
    assert.ok(back(3).equals(padded))
    assert.equal(readFileSync(join(at('log-back'), '00000002.history'), 'utf8'), '1\t0/3000000\tno recovery target\n')
  })

  test('opens with a passphrase, in any Unicode form, and with the digits of an exported key', () => {
    writeFileSync(at('passphrase'), `${PASSPHRASE.normalize('NFD')}\n`)
    assert.equal(recover('list', '--passphrase-file', at('passphrase')).status, 0)
    const [, base64] = /^regain-key-1:(.*):/m.exec(readFileSync(at('main.key'), 'utf8'))!
    writeFileSync(at('hex'), Buffer.from(base64!, 'base64').toString('hex'))
    assert.equal(recover('list', '--key', at('hex')).status, 0)
  })

  test('a wrong key or passphrase is told apart from damage, and never shown', async () => {
    await createKeyFile(at('other.key'), randomBytes)
    writeFileSync(at('wrong'), 'open sesame\n')
    for (const args of [
      ['--key', at('other.key')],
      ['--passphrase-file', at('wrong')],
    ]) {
      const { status, stdout, stderr } = recover('list', ...args)
      assert.equal(status, 12, stderr)
      assert.match(stderr, /does not open/)
      assert.doesNotMatch(stdout + stderr, /sesame|regain-key/)
    }
  })

  test('leaves the repository as it is, and a target that is not empty', () => {
    const copied = join(at('copy'), 'repository.json')
    const { status, stderr } = recover('files', '--key', at('main.key'), points.db!, at('copy'))
    assert.equal(status, 1)
    assert.match(stderr, /not empty/)
    assert.ok(existsSync(copied))
  })

  test('writes nothing outside the target, whatever a listing says', () => {
    const { status, stderr } = recover('files', '--key', at('main.key'), points.hostile!, at('tricks/back'))
    assert.equal(status, 3)
    assert.match(stderr, /a path that no backup makes/)
    assert.match(stderr, /comes without its folder/)
    assert.deepEqual(readdirSync(at('tricks/back')), ['link', 'ordinary'])
    assert.deepEqual(readdirSync(at('tricks')), ['back'])
    assert.equal(existsSync(at('outside')), false)
  })

  test('prefers copies that no repair has set aside', async () => {
    const folder = at('repaired')
    const storage = await createLocalStorage(join(folder, 'store'))
    const made = await createTestRepository(storage, folder, 1)
    writeTree(join(folder, 'tree'), { large: noise(3 * MIB, 21), small: 'text' })
    const { point } = await backUp(made.repository, join(folder, 'tree'))
    const packs = readdirSync(join(folder, 'store/packs'), { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.includes('/'),
    )
    const sizeOf = (name: string) => statSync(join(folder, 'store/packs', name)).size
    const hurt = join(folder, 'store/packs', packs.sort((a, b) => sizeOf(b) - sizeOf(a))[0]!)
    const bytes = readFileSync(hurt)
    bytes[MIB]! ^= 1
    writeFileSync(hurt, bytes)
    const run = { readData: true, signal, progress: () => undefined }
    await made.repository.repair(await made.repository.planRepair(run), run)
    await backUp(made.repository, join(folder, 'tree'))
    await made.repository.close()
    const key = readdirSync(folder).find((name) => name.endsWith('.key'))!
    const { status, stderr } = recoverFrom(
      join(folder, 'store'),
      'files',
      '--key',
      join(folder, key),
      point.id,
      join(folder, 'back'),
    )
    assert.equal(status, 0, stderr)
    assert.ok(readFileSync(join(folder, 'back/large')).equals(noise(3 * MIB, 21)))
  })

  test('finds chunks without an index', async () => {
    const copy = damagedCopy()
    rmSync(join(copy, 'index'), { recursive: true })
    const { status, stderr } = recoverFrom(copy, 'files', '--key', at('main.key'), points.db!, at('no-index'))
    assert.equal(status, 0, stderr)
    assert.deepEqual(diffTrees(database, await describeTree(at('no-index'))), [])
  })

  test('is not misled by a key of a repository that was begun at the same place and lost', async () => {
    const copy = damagedCopy()
    const storage = await createLocalStorage(at('begun'))
    const keys = [await openKeyFile(at('main.key'))]
    for (let i = 0; i < 3; i++) {
      await (await createRepository({ storage, keys, ambient, workers: 1, service: 'lost' })).close()
      cpSync(at('begun/keys'), join(copy, 'keys'), { recursive: true })
      // What a maker leaves that died before repository.json: its key, and nothing that was used yet.
      rmSync(at('begun/repository.json'))
      rmSync(at('begun/generations'), { recursive: true })
    }
    await storage.close()
    const { status, stdout, stderr } = recoverFrom(copy, 'list', '--key', at('main.key'))
    assert.equal(status, 0, stderr)
    assert.match(stdout, new RegExp(`^${points.db!.slice(0, 12)} `, 'm'))
    assert.match(stderr, /Repository of service shop/)
  })

  test('works without repository.json, and says so', () => {
    const copy = damagedCopy()
    rmSync(join(copy, 'repository.json'))
    const { status, stderr } = recoverFrom(copy, 'list', '--key', at('main.key'))
    assert.equal(status, 0)
    assert.match(stderr, /repository.json is missing/)
  })

  test('never writes wrong bytes: a flipped bit in any object costs what the messages name, nothing else', async () => {
    const copy = damagedCopy()
    const packs = objectsOf(copy).filter((name) => name.startsWith('packs/'))
    for (const pack of packs) flip(join(copy, pack))
    const lost = await checkFlippedObject(copy, 'every pack')
    assert.ok(lost.includes('LOST: base: '), lost)
    for (const pack of packs) flip(join(copy, pack))
    for (const object of someOfEachKind(copy)) {
      flip(join(copy, object))
      if (object.startsWith('log/')) checkFlippedLog(copy, object)
      else await checkFlippedObject(copy, object)
      flip(join(copy, object))
    }
  })

  test('an ordinary user gets everything but owners, devices and what only root may set', {
    skip: process.getuid?.() === 0 ? false : 'the other tests ran as an ordinary user',
  }, async () => {
    chmodSync(directory, 0o755)
    chmodSync(at('main.key'), 0o644)
    openToAll(at('copy'))
    mkdirSync(at('nobody'))
    chownSync(at('nobody'), 65534, 65534)
    const { status, stderr } = spawnSync(
      'setpriv',
      ['--reuid=65534', '--regid=65534', '--clear-groups', 'python3', join(at('copy'), 'recover.py')].concat(
        ['files', '--key', at('main.key')],
        [points.files!, join(at('nobody'), 'back')],
      ),
      // Root's own Python may not be for others.
      { encoding: 'utf8', env: { PATH: '/usr/bin:/bin' } },
    )
    assert.equal(status, 3, stderr)
    assert.doesNotMatch(stderr, /Traceback/)
    const content = (lines: string[]) =>
      lines.flatMap((line) => /^(.*) type=10 .*(sha256=\w+)/.exec(line)?.slice(1) ?? [])
    assert.deepEqual(content(await describeTree(join(at('nobody'), 'back'))), content(tree))
  })
})

function damagedCopy(): string {
  rmSync(at('damaged'), { recursive: true, force: true })
  cpSync(at('copy'), at('damaged'), { recursive: true })
  return at('damaged')
}

function objectsOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile() && !/recover.py|FORMAT.txt|__pycache__/.test(name))
    .sort()
}

/** At most two objects of each folder, and all of the log. */
function someOfEachKind(folder: string): string[] {
  const seen = new Map<string, number>()
  return objectsOf(folder).filter((name) => {
    const [kind] = name.split('/') as [string]
    seen.set(kind, (seen.get(kind) ?? 0) + 1)
    return kind === 'log' || seen.get(kind)! <= 2
  })
}

/** One bit, two thirds in: in data, beyond headers. Twice is as if never. */
function flip(path: string): void {
  const bytes = readFileSync(path)
  const at = Math.floor((bytes.length * 2) / 3)
  bytes[at] = bytes[at]! ^ 4
  writeFileSync(path, bytes)
}

/** What recover.py said. */
async function checkFlippedObject(copy: string, object: string): Promise<string> {
  const target = at('flipped')
  const files = recoverFrom(copy, 'files', '--key', at('main.key'), points.db!, target)
  if (existsSync(target)) {
    const differences = diffTrees(database, await describeTree(target))
    const wrong = differences.filter((line) => line.startsWith('+'))
    assert.deepEqual(wrong, [], `${object} was flipped`)
    if (differences.length > 0) assert.equal(files.status, 3, `${object} was flipped: ${files.stderr}`)
  } else assert.notEqual(files.status, 0)
  removeTree(target)
  return files.stderr
}

function checkFlippedLog(copy: string, object: string): void {
  const log = recoverFrom(copy, 'log', '--key', at('main.key'), 'db', at('flipped-log'))
  const name = object.split('/').find((part) => /^\w{24}$|history/.test(part))!
  const beyondGap = object.endsWith(String(800 * KIB))
  assert.equal(log.status, beyondGap ? 0 : 3, `${object}: ${log.stderr}`)
  if (!beyondGap) {
    assert.match(log.stderr, new RegExp(`LOST: .*${name}`))
    assert.equal(existsSync(join(at('flipped-log'), name)), false)
  }
  removeTree(at('flipped-log'))
}

function openToAll(folder: string): void {
  chmodSync(folder, 0o755)
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, name)
    chmodSync(path, statSync(path).isDirectory() ? 0o755 : 0o644)
  }
}

function segmentName(number: number): string {
  return `0000000100000000${number.toString(16).toUpperCase().padStart(8, '0')}`
}

interface Outcome {
  status: number | null
  stdout: string
  stderr: string
}

function recover(...args: string[]): Outcome {
  return recoverFrom(at('copy'), ...args)
}

function recoverFrom(repository: string, ...args: string[]): Outcome {
  const { status, stdout, stderr, error } = spawnSync('python3', [join(repository, 'recover.py'), ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH },
  })
  assert.equal(error, undefined)
  assert.doesNotMatch(stderr, /Traceback/)
  return { status, stdout, stderr }
}

async function makeRepository(): Promise<void> {
  await makeOddities(at('source'), { many: 600, largeMebibytes: 70 })
  tree = await describeTree(at('source'))
  await createKeyFile(at('main.key'), randomBytes)
  const storage = await createLocalStorage(at('made'))
  const keys = [await openKeyFile(at('main.key'))]
  const repository = await createRepository({ storage, keys, ambient, workers: 2, service: 'shop' })
  try {
    await repository.addKey(quickPassphrase(), 'passphrase')
    points.hostile = await backUpTricks(repository)
    points.files = await backUpFiles(repository)
    points.db = await backUpDatabase(repository)
    await writeLog(repository)
  } finally {
    await repository.close()
    await storage.close()
  }
}

async function backUpFiles(repository: Repository): Promise<string> {
  const source = createFilesSource({ paths: [at('source')], exclude: [] }, ambient)
  const progress = () => undefined
  const session = await repository.startPoint({
    source: 'files',
    sourceType: 'files',
    kind: 'full',
    tool: 'test',
    signal,
    progress,
  })
  const summary = await source.backup(session, { kind: 'full', signal, progress, warn: () => undefined })
  const point = await session.commit(summary)
  assert.deepEqual(point.missed, [])
  return point.id
}

/** A source whose bytes arrive as streams, in pages: 300 chunks are more than an entry lists itself. */
async function backUpDatabase(repository: Repository): Promise<string> {
  const session = await repository.startPoint({
    source: 'db',
    sourceType: 'postgres',
    kind: 'full',
    tool: 'test',
    unordered: true,
    signal,
    progress: () => undefined,
  })
  const content = {
    base: noise(300 * 128 * KIB + 5, 21),
    empty: Buffer.alloc(0),
    'z/last': Buffer.from('small'),
    [`${deepFolders().at(-1)}/leaf`]: Buffer.from('below PATH_MAX'),
  }
  await session.add(entryOf('', 'directory'))
  await session.add(entryOf('z', 'directory'))
  const deep = deepFolders()
  for (const path of deep) await session.add(entryOf(path, 'directory'))
  for (const [path, bytes] of Object.entries(content)) {
    const stream = await session.addStream({ ...entryOf(path, 'file'), size: bytes.length }, 'pages')
    await stream.write(bytes)
    await stream.end()
  }
  const positions = { walSegmentBytes: SEGMENT_BYTES }
  const point = await session.commit({ kind: 'full', root: '/', positions, sourceBytes: 1, missed: [] })
  const opened = await repository.openPoint(point.id, { signal })
  try {
    assert.ok((await opened.entry('base'))?.chunkLists)
    await opened.materialize(at('database'), { signal, progress: () => undefined, warn: () => undefined })
  } finally {
    await opened.close()
  }
  database = await describeTree(at('database'))
  return point.id
}

/** As src/keys/passphrase.ts, but with parameters that cost a moment: without the argon2 command, Python derives the key. */
function quickPassphrase(): KeyProvider {
  const argon2id = { salt: randomBytes(16).toString('hex'), memoryKiB: 300, passes: 2, parallelism: 3 }
  const derive = () => deriveKek(Buffer.from(PASSPHRASE.normalize('NFC')), argon2id)
  return {
    type: 'passphrase',
    description: 'passphrase',
    wrap: async (key) => {
      const kek = await derive()
      return { type: 'passphrase', kek: kekId(kek), wrapped: wrapKey(kek, key).toString('base64'), argon2id }
    },
    unwrap: async () => null,
    kekName: async () => kekId(await derive()),
    exportKey: derive,
  }
}

/** A point of someone who has the key and means harm. */
async function backUpTricks(repository: Repository): Promise<string> {
  const session = await repository.startPoint({
    source: 'tricks',
    sourceType: 'files',
    kind: 'full',
    tool: 'test',
    unordered: true,
    signal,
    progress: () => undefined,
  })
  await session.add(entryOf('', 'directory'))
  await session.add({ ...entryOf('link', 'file'), type: 'symlink', target: '..' })
  for (const path of [
    '../outside',
    '/outside',
    'a/../../outside',
    'link/outside',
    'no/folder',
    'ordinary',
    './dot',
    'nul\0',
  ])
    await session.add({ ...entryOf(path, 'file'), size: 0 })
  await session.add({ ...entryOf('up', 'file'), hardLink: '../main.key' })
  const point = await session.commit({ kind: 'full', root: '/', positions: {}, sourceBytes: 1, missed: [] })
  return point.id
}

/** Together longer than any path that a system call takes. */
function deepFolders(): string[] {
  return Array.from({ length: 25 }, (_, depth) =>
    Array(depth + 1)
      .fill('d'.repeat(250))
      .join('/'),
  )
}

function entryOf(path: string, type: 'file' | 'directory'): Entry {
  const owner = { uid: process.getuid!(), gid: process.getgid!() }
  return { path, type, mode: type === 'file' ? 0o640 : 0o750, ...owner, mtime: '1700000000000000001' }
}

async function writeLog(repository: Repository): Promise<void> {
  const log = repository.log('db')
  const meta = { until: '2026-01-02T03:04:05.678Z' }
  await log.putSegment('00000001', segmentName(1), segments[0]!, meta)
  await log.putSegment('00000001', segmentName(2), segments[1]!, meta)
  const tail = segments[2]!
  await log.putTail('00000001', segmentName(3), 0, tail.subarray(0, 400 * KIB), meta)
  await log.putTail('00000001', segmentName(3), 400 * KIB, tail.subarray(400 * KIB, 600 * KIB), meta)
  // Overlaps what is there, as after a restart; and one beyond a gap, which nothing can be done with.
  await log.putTail('00000001', segmentName(3), 500 * KIB, tail.subarray(500 * KIB, 700 * KIB), meta)
  await log.putTail('00000001', segmentName(3), 800 * KIB, tail.subarray(800 * KIB, 900 * KIB), meta)
  await log.putHistory('00000002.history', Buffer.from('1\t0/3000000\tno recovery target\n'))
}
