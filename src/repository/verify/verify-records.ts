import { RegainError } from '../../errors.ts'
import type { VerifyProblem } from '../api.ts'
import { endName, lastComponent, PREFIX, receiptName, sessionName } from '../format/object-names.ts'
import { openRecord, type RecordKinds } from '../format/records.ts'
import { isEndedLongAgo } from '../keys/epochs.ts'
import { type Commit, readCommits } from '../points/commits.ts'
import type { RepositoryState } from '../repository-state.ts'

export type Report = (found: VerifyProblem) => void

/** Sessions, pins, generations: each opens. */
export async function checkProtocolObjects(
  state: RepositoryState,
  signal: AbortSignal,
  problem: Report,
): Promise<void> {
  await checkEach(state, 'S', PREFIX.sessions, signal, problem)
  await checkEach(state, 'N', PREFIX.pins, signal, problem)
  await checkEach(state, 'D', PREFIX.holds, signal, problem)
  const generations = await checkEach(state, 'G', PREFIX.generations, signal, problem)
  if (generations === 0)
    missing(problem, PREFIX.generations, 'No generation object is left: no backup can be written safely.')
}

async function checkEach(
  state: RepositoryState,
  kind: keyof RecordKinds,
  prefix: string,
  signal: AbortSignal,
  problem: Report,
): Promise<number> {
  const names = await namesUnder(state, prefix, signal)
  for (const name of names)
    await attempt(
      problem,
      name,
      async () => {
        if (kind === 'S' && (await isEndedLongAgo(state, name, signal))) return
        openRecord(state.keys, kind, name, await state.storage.get(name, undefined, { signal }))
      },
      true,
    )
  return names.length
}

/**
 * Every commit opens, has its session and its receipt, and the one it follows; every receipt has its commit. Backups may
 * commit meanwhile, so receipts, which are written after commits, are listed before them to find lost commits.
 */
export async function checkCommits(state: RepositoryState, signal: AbortSignal, problem: Report): Promise<Commit[]> {
  const damaged = new Set<string>()
  const committed = await namesUnder(state, PREFIX.receipts, signal)
  const commits = await readCommits(state, {
    signal,
    damaged: (object, error) => {
      damaged.add(lastComponent(object))
      problem({ object, kind: 'changed', detail: `${error.message} The recovery point is lost.`, hurts: [] })
    },
  })
  const known = new Map(commits.map((commit) => [commit.point.id, commit]))
  // After the points: whichever stopped counting meanwhile has its record by now.
  const expired = await readExpired(state, signal, problem)
  await checkOrphans(state, { known, damaged, expired }, signal, problem)
  const receipts = new Set(await namesUnder(state, PREFIX.receipts, signal))
  for (const name of committed) {
    const receipt = await attempt(problem, name, async () =>
      openRecord(state.keys, 'R', name, await state.storage.get(name, undefined, { signal })),
    )
    const id = lastComponent(name)
    const commit = known.get(id)
    if (!commit && expired.has(id)) continue
    if (!commit && !damaged.has(id)) missing(problem, endName(id), `Recovery point ${id} was committed and is gone.`)
    else if (commit && receipt && receipt.commit !== commit.sha256)
      problem({
        object: endName(id),
        kind: 'changed',
        detail: `Recovery point ${id} is not the one that was committed.`,
        hurts: [],
      })
  }
  for (const { point } of commits) {
    if (!receipts.has(receiptName(point.id)))
      missing(
        problem,
        receiptName(point.id),
        `The receipt of recovery point ${point.id} is missing. No data is affected; the next backup writes it again.`,
      )
    if (point.previous && !damaged.has(point.previous.id) && !isAccountedFor(point.previous, known, expired))
      missing(
        problem,
        endName(point.previous.id),
        `Recovery point ${point.previous.id}, which ${point.id} follows, is gone or was replaced.`,
      )
  }
  return commits
}

/**
 * Points that were removed on purpose, with the hashes of their commits: each record opens, which a store without the key can't
 * bring about. One that was made while another removed the point may have found no commit to name; then the other's names it.
 */
async function readExpired(
  state: RepositoryState,
  signal: AbortSignal,
  problem: Report,
): Promise<Map<string, Set<string>>> {
  const expired = new Map<string, Set<string>>()
  for (const name of await namesUnder(state, PREFIX.expired, signal)) {
    const record = await attempt(
      problem,
      name,
      async () => openRecord(state.keys, 'X', name, await state.storage.get(name, undefined, { signal })),
      true,
    )
    if (record) expired.set(record.session, (expired.get(record.session) ?? new Set()).add(record.commit))
  }
  return expired
}

/** It counts, or did until it expired. */
function isAccountedFor(
  { id, sha256 }: { id: string; sha256: string },
  known: ReadonlyMap<string, Commit>,
  expired: ReadonlyMap<string, ReadonlySet<string>>,
): boolean {
  const commit = known.get(id)
  return commit ? commit.sha256 === sha256 : expired.get(id)?.has(sha256) === true
}

/** A commit whose session object is gone does not count: the session was lost, or a collector had fenced it just before. */
async function checkOrphans(
  state: RepositoryState,
  {
    known,
    damaged,
    expired,
  }: {
    known: ReadonlyMap<string, Commit>
    damaged: ReadonlySet<string>
    expired: ReadonlyMap<string, ReadonlySet<string>>
  },
  signal: AbortSignal,
  problem: Report,
): Promise<void> {
  for (const name of await namesUnder(state, PREFIX.ends, signal)) {
    const id = lastComponent(name)
    if (known.has(id) || damaged.has(id) || expired.has(id)) continue
    const end = await attempt(
      problem,
      name,
      async () => openRecord(state.keys, 'E', name, await state.storage.get(name, undefined, { signal })),
      true,
    )
    // Committed after the points were listed: then its session is there.
    if (end?.end === 'commit' && (await state.storage.size(sessionName(id), { signal })) === null)
      missing(
        problem,
        sessionName(id),
        `The session object of recovery point ${id} is missing, so the point does not count any more.`,
      )
  }
}

async function namesUnder(state: RepositoryState, prefix: string, signal: AbortSignal): Promise<string[]> {
  const names: string[] = []
  for await (const object of state.storage.list(prefix, { signal })) names.push(object.name)
  return names.sort()
}

/** Reports damage of `object` instead of throwing. `mayVanish`: other processes may be done with it meanwhile. */
export async function attempt<T>(
  problem: Report,
  object: string,
  look: () => Promise<T>,
  mayVanish = false,
): Promise<T | null> {
  try {
    return await look()
  } catch (error) {
    if (!(error instanceof RegainError)) throw error
    if (error.code === 'storage-not-found') {
      if (!mayVanish) missing(problem, object, `${object} is missing.`)
    } else if (error.code === 'repository-damaged' || error.code === 'repository-version')
      problem({ object, kind: 'changed', detail: error.message, hurts: [] })
    else throw error
    return null
  }
}

export function missing(problem: Report, object: string, detail: string): void {
  problem({ object, kind: 'missing', detail, hurts: [] })
}
