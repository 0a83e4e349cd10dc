import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { createKeyFile, openKeyFile } from '../../src/keys/file.ts'
import { openPassphrase } from '../../src/keys/passphrase.ts'
import type { Ambient, Entry } from '../../src/model.ts'
import type { Repository } from '../../src/repository/api.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { createFilesSource } from '../../src/sources/files/source.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import { describeTree, diffTrees, makeOddities, noise, removeTree } from '../support/oddities.ts'

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
    assert.deepEqual(readFileSync(join(at('log-back'), segmentName(1))), segments[0])
    assert.deepEqual(readFileSync(join(at('log-back'), segmentName(2))), segments[1])
    const padded = Buffer.alloc(SEGMENT_BYTES)
    segments[2]!.copy(padded, 0, 0, 700 * KIB)
    assert.deepEqual(readFileSync(join(at('log-back'), segmentName(3))), padded)
    assert.equal(readFileSync(join(at('log-back'), '00000002.history'), 'utf8'), '1\t0/3000000\tno recovery target\n')
  })
})

function segmentName(number: number): string {
  return `0000000100000000${number.toString(16).toUpperCase().padStart(8, '0')}`
}

function recover(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr, error } = spawnSync('python3', [join(at('copy'), 'recover.py'), ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH },
  })
  assert.equal(error, undefined)
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
    await repository.addKey(
      openPassphrase(async () => PASSPHRASE, randomBytes),
      'passphrase',
    )
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
