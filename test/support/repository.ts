import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { isRegainError, throwIfInterrupted } from '../../src/errors.ts'
import type { KeyProvider } from '../../src/keys/contract.ts'
import { createKeyFile, openKeyFile } from '../../src/keys/file.ts'
import type { Ambient, Entry, Missed, Point } from '../../src/model.ts'
import { comparePaths } from '../../src/model.ts'
import type { PointSession, Repository, StartPoint } from '../../src/repository/api.ts'
import { createRepository, openRepository } from '../../src/repository/repository.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { memoryFolder } from './memory-folder.ts'

/** What tests of the engine share: an ambient, a key, trees of files, and backups and restores of them through the public API. */

export const SOURCE = 'files'
export const THREADS = 2

const never = new AbortController().signal

export interface TestAmbient extends Ambient {
  readonly lines: { level: string; message: string }[]
}

/** A clock that goes on by a second at every look, so that points have an order. */
export function testAmbient(startMs = Date.UTC(2026, 0, 1)): TestAmbient {
  let nowMs = startMs
  const lines: TestAmbient['lines'] = []
  return {
    lines,
    now: () => {
      nowMs += 1000
      return nowMs
    },
    randomBytes,
    log: (level, message) => void lines.push({ level, message }),
  }
}

export function temporaryFolder(): { path: string; remove(): void } {
  // A child that is going to be killed works in its parent's folder, which the parent removes.
  const path = mkdtempSync(join(process.env.REGAIN_TEST_FOLDER ?? memoryFolder(), 'regain-engine-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

export async function testKey(folder: string): Promise<KeyProvider> {
  const path = join(folder, `${randomBytes(4).toString('hex')}.key`)
  await createKeyFile(path, randomBytes)
  return openKeyFile(path)
}

export interface TestRepository {
  repository: Repository
  key: KeyProvider
  ambient: TestAmbient
}

export async function createTestRepository(
  storage: Storage,
  folder: string,
  workers = THREADS,
): Promise<TestRepository> {
  const key = await testKey(folder)
  const ambient = testAmbient()
  const repository = await createRepository({ storage, keys: [key], ambient, workers, service: 'shop' })
  return { repository, key, ambient }
}

export function openTestRepository(
  storage: Storage,
  key: KeyProvider,
  options: { ambient?: Ambient; workers?: number } = {},
): Promise<Repository> {
  return openRepository({
    storage,
    keys: [key],
    ambient: options.ambient ?? testAmbient(Date.UTC(2027, 0, 1)),
    workers: options.workers ?? THREADS,
  })
}

/** Repeatable bytes: `seed` decides. A tenth of it compresses. */
export function someBytes(seed: string, size: number): Buffer {
  const block = createHash('shake256', { outputLength: Math.min(Math.max(size, 1), 1 << 20) })
    .update(seed)
    .digest()
  const bytes = Buffer.allocUnsafe(size)
  for (let at = 0, turn = 0; at < size; at += block.length, turn++) {
    block.copy(bytes, at)
    // Otherwise every block would be the one before, and deduplication would leave nothing to store.
    if (at + 8 <= size) bytes.writeUInt32LE(turn, at)
    for (let i = at + 64; i + 8 < Math.min(size, at + block.length); i += 65_536) bytes.writeUInt32LE(turn * 7919, i)
  }
  return bytes
}

export type TreeSpec = Record<string, Buffer | string | { link: string } | { size: number; data: [number, Buffer][] }>

/** Writes files (bytes or text), symbolic links, and sparse files. Parents are made. A name that ends in '/' is a folder. */
export function writeTree(folder: string, spec: TreeSpec): void {
  for (const [name, content] of Object.entries(spec)) {
    const path = join(folder, name)
    mkdirSync(name.endsWith('/') ? path : dirname(path), { recursive: true })
    if (name.endsWith('/')) continue
    if (Buffer.isBuffer(content) || typeof content === 'string') writeFileSync(path, content)
    else if ('link' in content) symlinkSync(content.link, path)
    else writeSparse(path, content.size, content.data)
  }
}

function writeSparse(path: string, size: number, data: [number, Buffer][]): void {
  const fd = openSync(path, 'w')
  try {
    ftruncateSync(fd, size)
    for (const [offset, bytes] of data) writeSync(fd, bytes, 0, bytes.length, offset)
  } finally {
    closeSync(fd)
  }
}

/** Every entry of a tree with what must come back: type, mode, time, size, content. */
export function readTree(folder: string): Map<string, string> {
  const tree = new Map<string, string>()
  for (const { path, stat } of walk(folder)) {
    const full = join(folder, path)
    const about = `mode ${(Number(stat.mode) & 0o7777).toString(8)} mtime ${stat.mtimeNs}`
    if (stat.isSymbolicLink()) tree.set(path, `link to ${readlinkSync(full)}`)
    else if (stat.isFile()) tree.set(path, `file ${about} ${stat.size} bytes ${digestOf(full)}`)
    else tree.set(path, `folder ${about}`)
  }
  return tree
}

export function digestOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}

/** Depth first, in the order of a listing. */
function* walk(folder: string, path = ''): Generator<{ path: string; stat: ReturnType<typeof bigStat> }> {
  const stat = bigStat(join(folder, path))
  yield { path, stat }
  if (!stat.isDirectory()) return
  for (const name of readdirSync(join(folder, path)).sort(comparePaths))
    yield* walk(folder, path === '' ? name : `${path}/${name}`)
}

function bigStat(path: string) {
  return lstatSync(path, { bigint: true })
}

export function* entriesOf(folder: string): Generator<{ entry: Entry; path: Buffer }> {
  for (const { path, stat } of walk(folder)) {
    const entry: Entry = {
      path,
      type: stat.isDirectory() ? 'directory' : stat.isSymbolicLink() ? 'symlink' : 'file',
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtime: String(stat.mtimeNs),
      ctime: String(stat.ctimeNs),
      inode: String(stat.ino),
    }
    if (entry.type === 'file') entry.size = Number(stat.size)
    if (entry.type === 'symlink') entry.target = readlinkSync(join(folder, path))
    yield { entry, path: Buffer.from(join(folder, path)) }
  }
}

export function startRequest(options: Partial<StartPoint> = {}): StartPoint {
  return {
    source: SOURCE,
    sourceType: 'files',
    kind: 'incremental',
    tool: 'test',
    signal: never,
    progress: () => undefined,
    ...options,
  }
}

export interface BackedUp {
  point: Point
  missed: Missed[]
}

/** A whole backup, given up cleanly when it fails. Files whose size, times and inode are those of the base are not read. */
export async function backUp(
  repository: Repository,
  folder: string,
  options: Partial<StartPoint> & { label?: string } = {},
): Promise<BackedUp> {
  const session = await repository.startPoint(startRequest(options))
  try {
    const missed = await hand(session, folder, options.signal)
    const point = await session.commit({ kind: 'full', root: folder, positions: {}, sourceBytes: 0, missed: [] })
    return { point, missed }
  } catch (error) {
    await session.discard()
    throw error
  }
}

export async function hand(session: PointSession, folder: string, signal?: AbortSignal): Promise<Missed[]> {
  const missed: Missed[] = []
  const base = new Map<string, Entry>()
  try {
    if (session.base) for await (const entry of session.base.entries()) base.set(entry.path, entry)
  } catch (error) {
    // As sources do: what can't be read of the old point is read from the files.
    if (!isRegainError(error, 'repository-damaged') && !isRegainError(error, 'storage-not-found')) throw error
  }
  for (const { entry, path } of entriesOf(folder)) {
    throwIfInterrupted(signal)
    const before = base.get(entry.path)
    if (entry.type !== 'file') await session.add(entry)
    else if (!before || !isSame(entry, before) || !(await session.addUnchanged(entry, before)))
      await session.addFile(entry, path, (one) => missed.push(one))
  }
  return missed
}

function isSame(entry: Entry, before: Entry): boolean {
  return (
    entry.size === before.size &&
    entry.mtime === before.mtime &&
    entry.ctime === before.ctime &&
    entry.inode === before.inode
  )
}

export interface Restored {
  tree: Map<string, string>
  missed: Missed[]
  bytes: number
  files: number
}

/** Restores into a folder of its own, reads it back, and removes it. */
export async function restore(repository: Repository, id: string, signal: AbortSignal = never): Promise<Restored> {
  const target = temporaryFolder()
  try {
    const point = await repository.openPoint(id, { signal })
    try {
      const to = join(target.path, 'restored')
      const summary = await point.materialize(to, { signal, progress: () => undefined, warn: () => undefined })
      return { tree: readTree(to), ...summary }
    } finally {
      await point.close()
    }
  } finally {
    target.remove()
  }
}

/** The point restores to exactly this tree, and nothing is reported missed. */
export async function assertRestores(
  repository: Repository,
  id: string,
  expected: ReadonlyMap<string, string>,
): Promise<void> {
  const { tree, missed } = await restore(repository, id)
  assert.deepEqual(missed, [])
  assertSameTree(tree, expected)
}

/** Names the first differences instead of printing two large maps. */
export function assertSameTree(actual: ReadonlyMap<string, string>, expected: ReadonlyMap<string, string>): void {
  const differences: string[] = []
  for (const [path, about] of expected)
    if (actual.get(path) !== about) differences.push(`${path}: ${actual.get(path) ?? 'missing'}, not ${about}`)
  for (const path of actual.keys()) if (!expected.has(path)) differences.push(`${path}: should not be there`)
  assert.deepEqual(differences.slice(0, 10), [])
}

export function verify(repository: Repository, options: { readData?: boolean; signal?: AbortSignal } = {}) {
  return repository.verify({
    readData: options.readData ?? true,
    signal: options.signal ?? never,
    progress: () => undefined,
  })
}

export async function assertSound(repository: Repository): Promise<void> {
  assert.deepEqual((await verify(repository)).problems, [])
}

/** Times in the past, so that "changed" is never a matter of the clock's tick. */
export function age(folder: string, seconds = 1_700_000_000): void {
  for (const { path, stat } of [...walk(folder)].reverse())
    if (!stat.isSymbolicLink()) utimesSync(join(folder, path), seconds, seconds + 0.25)
}

/** A number from a seed, for tests that pick at random and must be repeatable. */
export function seededNumbers(seed: string): (below: number) => number {
  let turn = 0
  return (below) => createHash('sha256').update(`${seed} ${turn++}`).digest().readUInt32LE(0) % below
}

/** Printed by a test, so that a failure can be had again; REGAIN_TEST_SEED sets it. */
export function chooseSeed(): string {
  return process.env.REGAIN_TEST_SEED ?? randomBytes(4).toString('hex')
}

export function uninterrupted(): AbortSignal {
  return never
}
