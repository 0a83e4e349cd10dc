import assert from 'node:assert/strict'
import { isRegainError } from '../../src/errors.ts'
import type { KeyProvider } from '../../src/keys/contract.ts'
import type { Ambient, Entry } from '../../src/model.ts'
import type { LogRange, PruneReport, Repository } from '../../src/repository/api.ts'
import { type Call, type FaultScript, type FaultyStorage, withFaults } from '../../src/storage/fault.ts'
import { type MemoryStorage, openMemoryStorage } from '../../src/storage/memory.ts'
import {
  createTestRepository,
  openTestRepository,
  seededNumbers,
  someBytes,
  startRequest,
  testAmbient,
  uninterrupted,
} from './repository.ts'

/** By path. */
export type Contents = ReadonlyMap<string, Buffer>

const START_MS = Date.UTC(2026, 0, 1)
export const HOUR_MS = 3_600_000
export const RUN = { signal: uninterrupted(), progress: () => undefined }

/**
 * A repository in memory that lacks nothing which a prune has to do with: points to keep and one to expire, packs that are dead
 * and such of which little is needed, an earlier expiry, generations, index segments to merge, a writer and a reader that died,
 * log with a part that nothing needs.
 */
export interface AgedRepository {
  memory: MemoryStorage
  key: KeyProvider
  /** All that a test does to it goes through the faults. */
  storage: FaultyStorage
  repository: Repository
  /** The same, a year later: to it, those who died are dead. */
  late: Repository
  setScript(script: FaultScript): void
  /** The store as it was made, and no faults. */
  putBack(): void
  /** The store as it was made. */
  setBack(): void
  /** Points that every test keeps. */
  kept: ReadonlyMap<string, Contents>
  doomed: { id: string; contents: Contents }
  /** The contents of the next backup: old, expired and new. */
  next: Contents
  close(): Promise<void>
}

const EXPIRED_LOG: LogRange = { source: 'files', branch: '00000001', from: '0001', to: '0003' }

export async function makeAgedRepository(folder: string): Promise<AgedRepository> {
  const memory = openMemoryStorage()
  let script: FaultScript = () => null
  const storage = withFaults(memory, (call) => script(call))
  const { repository, key } = await createTestRepository(storage, folder, 1)
  const earlier = await addPoint(repository, some('shared', 'earlier'))
  const many = some('shared', 'one', 'two', 'three', 'four')
  const doomed = await addPoint(repository, many)
  await prune(repository, { expire: [earlier] })
  const kept = new Map<string, Contents>()
  for (const [contents, source] of [
    [some('shared', 'one', 'six'), 'files'],
    [some('shared', 'one', 'seven'), 'files'],
    [some('six', 'eight'), 'other'],
  ] as const)
    kept.set(await addPoint(repository, contents, source), contents)
  await putLog(repository)
  const dead = await repository.startPoint(startRequest({ source: 'dead' }))
  await fill(dead, some('of the dead'))
  await repository.openPoint([...kept.keys()][0] as string, { signal: uninterrupted() })
  const late = await openTestRepository(storage, key, { ambient: clockOff(24 * 365), workers: 1 })
  const sound = new Map(memory.objects)
  const setBack = () => {
    memory.objects.clear()
    for (const [name, bytes] of sound) memory.objects.set(name, bytes)
  }
  return {
    memory,
    key,
    storage,
    repository,
    late,
    setScript: (to) => {
      script = to
    },
    putBack() {
      script = () => null
      setBack()
    },
    setBack,
    kept,
    doomed: { id: doomed, contents: many },
    next: NEXT_CONTENTS,
    async close() {
      await late.close()
      await repository.close()
    },
  }
}

/** The contents of the next backup: old, expired and new. */
export const NEXT_CONTENTS = some('shared', 'two', 'six', 'new')

function some(...names: string[]): Contents {
  return new Map([...names].sort().map((name) => [name, someBytes(name, 20_000)]))
}

async function putLog(repository: Repository): Promise<void> {
  const log = repository.log(EXPIRED_LOG.source)
  for (const number of [1, 2, 3, 4])
    await log.putSegment(EXPIRED_LOG.branch, `000${number}`, someBytes(`log ${number}`, 3000), {
      until: '2026-01-01T00:00:00Z',
      ...(number > 1 ? { follows: `000${number - 1}` } : {}),
    })
}

/** A whole backup of contents, given up cleanly when it fails. */
export async function addPoint(repository: Repository, contents: Contents, source = 'files'): Promise<string> {
  const session = await repository.startPoint(startRequest({ source }))
  try {
    await fill(session, contents)
    await session.commit({ kind: 'full', root: '/', positions: {}, sourceBytes: 0, missed: [] })
    return session.id
  } catch (error) {
    await session.discard()
    throw error
  }
}

async function fill(session: Awaited<ReturnType<Repository['startPoint']>>, contents: Contents): Promise<void> {
  const base = new Map<string, Entry>()
  try {
    if (session.base) for await (const entry of session.base.entries()) base.set(entry.path, entry)
  } catch (error) {
    // As sources do: what can't be read of the old point is read from the source.
    if (!isRegainError(error, 'repository-damaged') && !isRegainError(error, 'storage-not-found')) throw error
  }
  const about = { mode: 0o755, uid: 0, gid: 0, mtime: '0' }
  await session.add({ path: '', type: 'directory', ...about })
  for (const [path, bytes] of contents) {
    const entry: Entry = { path, type: 'file', size: bytes.length, ...about }
    const before = base.get(path)
    if (before && (await session.addUnchanged(entry, before))) continue
    const stream = await session.addStream(entry, 'content')
    await stream.write(bytes)
    await stream.end()
  }
}

/** Plans and carries out: these points, and the log that nothing needs. */
export async function prune(
  repository: Repository,
  { expire, trimLog = [EXPIRED_LOG] }: { expire: readonly string[]; trimLog?: readonly LogRange[] },
): Promise<PruneReport> {
  const points = (await repository.points()).map(({ id }) => id)
  const plan = await repository.planPrune({
    expire: expire.filter((id) => points.includes(id)).map((id) => ({ id, reason: 'a test' })),
    trimLog,
    weighed: points,
    ...RUN,
  })
  return repository.prune(plan, RUN)
}

/** Another process' handle, on the bare store, with a clock so many hours off. */
export function another(aged: AgedRepository, hoursOff = 0): Promise<Repository> {
  return openTestRepository(aged.memory, aged.key, { ambient: clockOff(hoursOff), workers: 1 })
}

export function clockOff(hours: number): Ambient {
  return testAmbient(START_MS + hours * HOUR_MS)
}

/** Every byte of the point, read in memory. */
export async function assertHolds(repository: Repository, id: string, contents: Contents): Promise<void> {
  const point = await repository.openPoint(id, { signal: uninterrupted() })
  try {
    const paths: string[] = []
    for await (const entry of point.entries()) {
      if (entry.type !== 'file') continue
      const pieces: Buffer[] = []
      for await (const piece of point.stream(entry)) pieces.push(piece)
      assert.ok(contents.get(entry.path)?.equals(Buffer.concat(pieces)), `${entry.path} of ${id} has other bytes`)
      paths.push(entry.path)
    }
    assert.deepEqual(paths, [...contents.keys()])
  } finally {
    await point.close()
  }
}

/** The oracle: all that was kept is there, and whatever else is listed as a point is whole. Gives the ids of all. */
export async function assertAllHold(
  repository: Repository,
  aged: AgedRepository,
  others: ReadonlyMap<string, Contents> = new Map(),
): Promise<Set<string>> {
  const known = new Map([...aged.kept, [aged.doomed.id, aged.doomed.contents] as const, ...others])
  const ids = new Set((await repository.points()).map(({ id }) => id))
  for (const id of aged.kept.keys()) assert.ok(ids.has(id), `point ${id} is gone`)
  for (const id of ids) await assertHolds(repository, id, known.get(id) ?? aged.next)
  return ids
}

/** The calls of a piece of work that meets no fault, on the store as it was made. */
export async function callsOf(aged: AgedRepository, work: () => Promise<unknown>): Promise<Call[]> {
  aged.putBack()
  const start = aged.storage.calls.length
  await work()
  return aged.storage.calls.slice(start)
}

/** A script that gives its fault to the k-th call from now on, or from there on. */
export function atCall(aged: AgedRepository, choose: (k: number, call: Call) => ReturnType<FaultScript>): void {
  const start = aged.storage.calls.length
  aged.setScript((call) => choose(call.number - start, call))
}

/** Each number from 1 to `last` in the soak test; else about `count` of them, which the seed decides. */
export function someOf(last: number, count: number, seed: string): number[] {
  const all = Array.from({ length: last }, (_, i) => i + 1)
  const stride = process.env.REGAIN_SOAK_ROUNDS ? 1 : Math.max(1, Math.ceil(last / count))
  const first = seededNumbers(seed)(stride)
  return all.filter((k) => k % stride === first)
}
