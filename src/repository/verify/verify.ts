import { isRegainError, throwIfInterrupted } from '../../errors.ts'
import type { VerifyOptions, VerifyProblem, VerifyReport } from '../api.ts'
import { mapBounded } from '../bounded.ts'
import { readTrims } from '../collector/trim-log.ts'
import type { CheckPackReply } from '../compute/messages.ts'
import type { IndexedPack } from '../format/index-segment.ts'
import { lastComponent, PREFIX, packName, trimPrefix } from '../format/object-names.ts'
import type { TrimRecord } from '../format/records.ts'
import { openObject } from '../format/sealed.ts'
import { newestGeneration, readTombstones } from '../generations.ts'
import { isLeftOverTail } from '../keys/epochs.ts'
import { decodeLogPiece } from '../log/log-piece.ts'
import { listPacks, readSegments } from '../packs/chunk-index.ts'
import type { Commit } from '../points/commits.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from './damage.ts'
import { BadPacks, KnownChunks } from './verify-chunks.ts'
import { checkKeys } from './verify-keys.ts'
import { checkPoints } from './verify-points.ts'
import { checkCommits, checkProtocolObjects } from './verify-records.ts'

const READS_AT_ONCE = 8

/**
 * Checks a repository from the outside in: its clear and protocol objects, packs against the index (all their bytes
 * with readData), every chunk that a point needs, the log. Changes nothing. Damage is named with the points it hurts.
 */
export async function verifyRepository(state: RepositoryState, options: VerifyOptions): Promise<VerifyReport> {
  return (await inspect(state, options)).report
}

/** What verification saw, for whoever mends it. */
export interface Inspection {
  report: VerifyReport
  bad: BadPacks
  chunks: KnownChunks
}

export async function inspect(state: RepositoryState, options: VerifyOptions): Promise<Inspection> {
  const report: VerifyReport = { points: 0, packs: 0, logSegments: 0, bytesRead: 0, problems: [] }
  const problem = (found: VerifyProblem) => report.problems.push(found)
  await checkKeys(state, options.signal, problem)
  await checkProtocolObjects(state, options.signal, problem)
  const commits = await checkCommits(state, options.signal, problem)
  const wanted = commits.filter((commit) => options.source === undefined || commit.point.source === options.source)
  const indexed = await checkIndex(state, options, problem)
  const bad = await checkPacks(state, indexed, options, report)
  const chunks = await readChunks(state, bad, options)
  const points = wanted.map((commit: Commit) => commit.point)
  await checkPoints(state, { chunks, points, options, problem })
  await tellOfUnindexed(state, chunks, bad, options, report)
  await forgetSetAside(state, report, options)
  await checkLog(state, options, report)
  report.points = wanted.length
  return { report, bad, chunks }
}

/**
 * A damaged pack that is marked for removal and hurts no point is no problem any more: `regain repository repair` set it
 * aside, what it held is stored again, and the next prune removes it.
 */
async function forgetSetAside(state: RepositoryState, report: VerifyReport, options: VerifyOptions): Promise<void> {
  if (!report.problems.some(({ object }) => object.startsWith(PREFIX.packs))) return
  const tombstones = await tombstonesIfAny(state, options.signal)
  const hurting = new Set(report.problems.filter(({ hurts }) => hurts.length > 0).map(({ object }) => object))
  report.problems = report.problems.filter(
    ({ object }) => !object.startsWith(PREFIX.packs) || hurting.has(object) || !tombstones.has(lastComponent(object)),
  )
}

/** None where no generation can be read, which is a problem of its own. */
async function tombstonesIfAny(state: RepositoryState, signal: AbortSignal): Promise<ReadonlySet<string>> {
  try {
    return (await readTombstones(state, await newestGeneration(state, signal), signal)) ?? new Set()
  } catch (error) {
    if (!isDamage(error)) throw error
    return new Set()
  }
}

async function checkIndex(
  state: RepositoryState,
  options: VerifyOptions,
  problem: (found: VerifyProblem) => void,
): Promise<IndexedPack[]> {
  return readSegments(state, {
    signal: options.signal,
    unreadable: (segment, error) =>
      problem({
        object: segment,
        kind: 'changed',
        detail: `${error.message} No data is hurt: what it says is in the packs too, where restores find it. Mend it with: regain repository repair ${state.service}`,
        hurts: [],
      }),
  })
}

/** Where chunks are: index and packs as they are now, which may be more than when packs were checked. */
async function readChunks(state: RepositoryState, bad: BadPacks, options: VerifyOptions): Promise<KnownChunks> {
  const { signal } = options
  const indexed = await readSegments(state, { signal, unreadable: () => undefined })
  const listed = await listPacks(state, signal)
  return new KnownChunks(state, indexed, listed, bad, signal)
}

/** Where a needed pack is in no segment though all that are there can be read, one was removed. */
async function tellOfUnindexed(
  state: RepositoryState,
  { unindexed, undescribed }: KnownChunks,
  bad: BadPacks,
  { signal }: VerifyOptions,
  { problems }: VerifyReport,
): Promise<void> {
  for (const { pack, detail } of undescribed)
    if (!bad.names.has(pack)) problems.push({ object: packName(pack), kind: 'changed', detail, hurts: [] })
  if (unindexed.size === 0) return
  let isAnyDamaged = false
  const again = await readSegments(state, {
    signal,
    unreadable: () => {
      isAnyDamaged = true
    },
  })
  // Some may have been indexed since.
  for (const pack of again) unindexed.delete(pack.name.toString('hex'))
  if (unindexed.size === 0 || isAnyDamaged) return
  const detail = `An index segment was lost: packs that points need were named in it (${unindexed.size}). No data is hurt: what it said is in the packs too, where restores find it. Mend it with: regain repository repair ${state.service}`
  problems.push({ object: 'the index', kind: 'missing', detail, hurts: [] })
}

/** Packs that are missing, of the wrong size or (with readData) damaged, each with the chunks that are lost with it. */
async function checkPacks(
  state: RepositoryState,
  indexed: readonly IndexedPack[],
  options: VerifyOptions,
  report: VerifyReport,
): Promise<BadPacks> {
  const listed = await listPacks(state, options.signal)
  const bad = new BadPacks()
  const entries = new Map(indexed.map((pack) => [pack.name.toString('hex'), pack]))
  const found = (name: string, reply: Omit<VerifyProblem, 'object' | 'hurts'>, lost: 'all' | Uint8Array) => {
    bad.names.add(name)
    const entry = entries.get(name)
    if (entry) bad.addIndexed(name, entry.directory, lost === 'all')
    if (lost !== 'all') bad.addLost(lost)
    report.problems.push({ object: packName(name), ...reply, hurts: [] })
  }
  // Removed by a collector, as a rule, and the index not merged yet. If a point needs it, verify-points.ts says so.
  const gone = (name: string) => {
    bad.names.add(name)
    const entry = entries.get(name)
    if (entry) bad.addIndexed(name, entry.directory, true)
  }
  for (const [name, pack] of entries) {
    const size = listed.get(name)
    if (size === pack.sizeBytes) continue
    if (size === undefined) gone(name)
    else if (!options.readData)
      found(
        name,
        { kind: 'size', detail: `Pack ${name} has ${size} bytes where ${pack.sizeBytes} were written.` },
        'all',
      )
  }
  report.packs = listed.size
  if (!options.readData) return bad
  let done = 0
  const bytesTotal = [...listed.values()].reduce((sum, size) => sum + size, 0)
  await mapBounded([...listed.keys()], state.pool.threadCount * 2, async (name) => {
    throwIfInterrupted(options.signal)
    const entry = entries.get(name)
    const reply = await checkPack(state, name, entry?.directory ?? null, options.signal)
    report.bytesRead += reply.bytesRead
    options.progress({
      phase: 'verifying',
      bytesDone: report.bytesRead,
      bytesTotal,
      filesDone: ++done,
      filesTotal: listed.size,
    })
    // Readers don't open a pack of another size than its index gives, however much of it could be read.
    const isOpened = entry === undefined || entry.sizeBytes === listed.get(name)
    if (reply.problem?.kind === 'missing') gone(name)
    else if (reply.problem) found(name, reply.problem, isOpened ? (reply.lostChunks ?? 'all') : 'all')
  })
  return bad
}

async function checkPack(
  state: RepositoryState,
  pack: string,
  directory: Uint8Array | null,
  signal: AbortSignal,
): Promise<CheckPackReply> {
  const job = { type: 'check-pack', pack, directory: directory && new Uint8Array(directory) } as const
  if (state.storage.localDirectory !== undefined) return state.pool.run<CheckPackReply>(job)
  try {
    const data = new Uint8Array(await state.storage.get(packName(pack), undefined, { signal })).buffer
    return await state.pool.run<CheckPackReply>({ ...job, data }, [data])
  } catch (error) {
    if (!isRegainError(error, 'storage-not-found')) throw error
    const problem = { kind: 'missing', detail: error.message } as const
    return { bytesRead: 0, problem, lostChunks: null }
  }
}

async function checkLog(state: RepositoryState, options: VerifyOptions, report: VerifyReport): Promise<void> {
  const prefix = options.source === undefined ? PREFIX.log : `${PREFIX.log}${options.source}/`
  const names: string[] = []
  for await (const { name } of state.storage.list(prefix, { signal: options.signal }))
    if (!name.includes('/trims/') && !isLeftOverTail(state, name)) names.push(name)
  report.logSegments = names.filter((name) => name.includes('/segments/')).length
  if (!options.readData) return
  const there = new Set(names)
  const gone = new Set<string>()
  await mapBounded(names, READS_AT_ONCE, async (name) => {
    throwIfInterrupted(options.signal)
    try {
      const sealed = await state.storage.get(name, undefined, { signal: options.signal })
      const plain = openObject(state.keys, name.includes('/histories/') ? 'H' : 'L', name, sealed, name)
      const { follows } = decodeLogPiece(plain, name).meta
      const before = follows === undefined ? name : `${name.slice(0, name.lastIndexOf('/') + 1)}${follows}`
      if (!there.has(before)) gone.add(before)
      report.bytesRead += sealed.length
    } catch (error) {
      // A tail is dropped as soon as its segment is whole: no loss.
      if (isRegainError(error, 'storage-not-found')) return
      if (!isDamage(error)) throw error
      const detail = name.includes('/histories/')
        ? `${error.message} Without it a recovery may not find its way from one branch of the log to the next. Whoever follows the log puts it again.`
        : `${error.message} Recovery can't go past ${lastComponent(name)} on this branch of the log.`
      report.problems.push({ object: name, kind: 'changed', detail, hurts: [] })
    }
  })
  for (const object of await notTrimmed(state, gone, options.signal, report)) {
    report.problems.push({ object, kind: 'missing', detail: lostSegment(object), hurts: [] })
  }
}

export function lostSegment(object: string): string {
  return `The log segment ${object} was stored and is gone. Recovery can't cross it on this branch of the log.`
}

/** Without what was removed on purpose. Trim records are read last: they are there before anything of theirs goes. */
async function notTrimmed(
  state: RepositoryState,
  objects: Iterable<string>,
  signal: AbortSignal,
  report: VerifyReport,
): Promise<string[]> {
  const trims = new Map<string, TrimRecord['ranges']>()
  const left: string[] = []
  for (const object of objects) {
    const [, source, , branch, name] = object.split('/') as [string, string, string, string, string]
    if (!trims.has(source)) trims.set(source, await rangesOf(source))
    const isTrimmed = trims
      .get(source)
      ?.some((range) => range.branch === branch && name >= range.from && name < range.to)
    if (!isTrimmed) left.push(object)
  }
  return left

  async function rangesOf(source: string): Promise<TrimRecord['ranges']> {
    try {
      return [...(await readTrims(state, source, signal)).values()].flatMap(({ ranges }) => ranges)
    } catch (error) {
      if (!isDamage(error)) throw error
      report.problems.push({ object: trimPrefix(source), kind: 'changed', detail: error.message, hurts: [] })
      return []
    }
  }
}
