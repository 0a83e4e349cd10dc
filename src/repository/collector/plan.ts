import { RegainError } from '../../errors.ts'
import type { PlannedPack, PrunePlan, PruneRequest } from '../api.ts'
import { lastComponent, PREFIX, sessionName } from '../format/object-names.ts'
import type { ExpiredRecord } from '../format/records.ts'
import { expiredNames, readExpired } from '../points/expired.ts'
import { readHolds } from '../points/holds.ts'
import { isPinGone } from '../points/liveness.ts'
import type { RepositoryState } from '../repository-state.ts'
import { classify, neededBytes } from './classify.ts'
import { readNewest } from './publish-generation.ts'
import { hasHistory, type Roots } from './roots.ts'
import { openSessions } from './sessions.ts'
import { survey } from './survey.ts'
import { logObjectsIn } from './trim-log.ts'
import { waitsFor } from './waits.ts'

/** What one prune writes anew, at most: a share of the repository, so that the cost follows its size; little is done at once. */
const REPACK_SHARE = 0.1
const REPACK_BYTES = 1024 ** 3

const NO_POINTS =
  'There is data and no recovery point, nor word of one that was removed. The data is left as it is: should points be lost, it may be all of them. Else the first prune after the first point removes what that does not need.'

type Expiring = Map<string, { source: string; committedAt: string; reason: string }>

/** What a prune would do, were all to stay as it is now. Changes nothing. `older`: packs (hex) of a key epoch that is to end. */
export async function planPrune(
  state: RepositoryState,
  request: PruneRequest,
  older: ReadonlySet<string> = new Set(),
): Promise<PrunePlan> {
  const { signal } = request
  const expire = await expiring(state, request)
  const sessions = await openSessions(state, signal)
  const waiting = sessions.filter(({ gone }) => gone === null)
  const { tombstones } = await readNewest(state, signal)
  const except = new Set(expire.keys())
  const { found, catalog, marks } = await survey(state, { tombstones, except, signal, progress: request.progress })
  const bytesTotal = sum(catalog.packs.map(({ sizeBytes }) => sizeBytes))
  // What a new key epoch replaces goes all the same.
  const isKnown = older.size > 0 || (await hasHistory(state, found, signal))
  const classified = isKnown ? classify(catalog, marks, older) : []
  const { remove, repack } = choosePacks(classified, waiting.length > 0, bytesTotal)
  const trimLog = await logToTrim(state, request)
  const repacked = sum(repack.map(neededBytes))
  return {
    repository: state.id,
    expire: describe(expire, found),
    trimLog,
    weighed: [...request.weighed],
    packs: { total: catalog.packs.length, remove, repack },
    bytes: {
      total: bytesTotal,
      freed: sum([...remove, ...repack, ...trimLog].map(({ bytes }) => bytes)) - repacked,
      repacked,
    },
    sessions: [
      ...sessions.flatMap(({ session, source, startedAt, gone }) =>
        gone ? [{ session, source, startedAt, why: gone }] : [],
      ),
      ...found.ends.aborted.map((session) => ({ session, source: '', startedAt: '', why: 'aborted' as const })),
    ],
    pins: found.pins.flatMap((pin) => {
      const why = isPinGone(state.ambient, pin)
      return why ? [{ pin: pin.pin, point: pin.point, startedAt: pin.startedAt, why }] : []
    }),
    waits: [...waitsFor(waiting), ...(isKnown || catalog.packs.length === 0 ? [] : [NO_POINTS])],
  }
}

/**
 * What is asked for, and what is left of points that an earlier prune removed. One that it only began to remove still
 * counts: it was weighed anew, and goes if that is asked for again. Rejects with `point-not-found` for an id that never was.
 */
async function expiring(state: RepositoryState, { expire, weighed, signal }: PruneRequest): Promise<Expiring> {
  const left = new Set<string>()
  for (const prefix of [PREFIX.sessions, PREFIX.ends, PREFIX.receipts])
    for await (const { name } of state.storage.list(prefix, { signal })) left.add(lastComponent(name))
  const known: Expiring = new Map()
  const expired = await expiredNames(state, signal)
  for (const id of expired.keys()) {
    const record = left.has(id) ? telling(await readExpired(state, id, signal)) : undefined
    if (record) known.set(id, { source: record.source, committedAt: record.committedAt, reason: record.reason })
  }
  const asked = new Set(expire.map(({ id }) => id))
  const stays = [...weighed.filter((id) => !asked.has(id)), ...(await readHolds(state)).keys()]
  for (const id of stays)
    if (known.has(id) && (await state.storage.size(sessionName(id), { signal })) !== null) known.delete(id)
  for (const { id, reason } of expire) {
    // Another prune has removed it since it was weighed.
    if (!left.has(id) && expired.has(id)) continue
    if (!left.has(id)) throw new RegainError('point-not-found', `There is no recovery point ${id} to remove.`)
    if (!known.has(id)) known.set(id, { source: '', committedAt: '', reason })
  }
  return known
}

/** Of the records of one point, for people: who still knew the point; of several, who decided first; of equals, by name. */
function telling(records: ReadonlyMap<string, ExpiredRecord>): ExpiredRecord | undefined {
  const rank = ([name, { source, expiredAt }]: [string, ExpiredRecord]) =>
    `${source === '' ? 1 : 0} ${expiredAt} ${name}`
  const [first] = [...records].sort((a, b) => (rank(a) < rank(b) ? -1 : 1))
  return first?.[1]
}

function describe(expire: Expiring, { ends }: Roots): PrunePlan['expire'] {
  const points = new Map(ends.commits.map(({ point }) => [point.id, point]))
  return [...expire].map(([id, about]) => {
    const { source, committedAt } = points.get(id) ?? about
    return { id, source, committedAt, reason: about.reason }
  })
}

/**
 * While a backup runs nothing is written anew, as the old could not go yet; and its fresh packs, which no index names so far,
 * are left alone: marked, they would have to be written anew.
 */
function choosePacks(
  classified: readonly PlannedPack[],
  isWaiting: boolean,
  bytesTotal: number,
): { remove: PlannedPack[]; repack: PlannedPack[] } {
  const remove = classified.filter(({ why, needed }) => needed === 0 && !(isWaiting && why === 'unindexed'))
  const repack: PlannedPack[] = []
  let budget = isWaiting ? 0 : Math.max(REPACK_BYTES, bytesTotal * REPACK_SHARE)
  // What is marked and needed first: nothing of it may be reused, so every backup would store it again. Then what frees most.
  const candidates = classified
    .filter(({ needed }) => needed > 0)
    .sort((a, b) => Number(b.why === 'marked') - Number(a.why === 'marked') || a.needed - b.needed)
  for (const pack of candidates) {
    if (neededBytes(pack) > budget) continue
    budget -= neededBytes(pack)
    repack.push(pack)
  }
  return { remove, repack }
}

async function logToTrim(state: RepositoryState, { trimLog, signal }: PruneRequest): Promise<PrunePlan['trimLog']> {
  const planned: PrunePlan['trimLog'] = []
  for (const { source, branch, from, to } of trimLog) {
    const objects = await logObjectsIn(state, { source, branch, from, to }, signal)
    if (objects.length === 0) continue
    const segments = objects.filter(({ isSegment }) => isSegment).length
    planned.push({ source, branch, from, to, segments, bytes: sum(objects.map(({ size }) => size)) })
  }
  return planned
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
