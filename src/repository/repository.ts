import { createHash } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { isRegainError, RegainError } from '../errors.ts'
import type { KeyProvider } from '../keys/contract.ts'
import type { Point } from '../model.ts'
import type { Storage } from '../storage/contract.ts'
import type { OpenPoint, Repository, RepositoryOptions } from './api.ts'
import { ComputePool } from './compute/pool.ts'
import { authenticateClear, decodeClear, encodeClear, type RepositoryRecord } from './format/clear.ts'
import { DOMAIN_ID_BYTES, FIRST_EPOCH, KEY_BYTES } from './format/domain-keys.ts'
import { lastComponent, PREFIX, REPOSITORY } from './format/object-names.ts'
import { createFirstGeneration } from './generations.ts'
import { addKey, destroyKeys, listAllKeys, lockedKeys, removeKey, writeFirstKey } from './keys/administer-keys.ts'
import { requireCurrentEpoch } from './keys/epochs.ts'
import { eraseKeyring, firstKeyring, type Keyring, openKeyring } from './keys/keyring.ts'
import { sourceLog } from './log/log-store.ts'
import { PackHeaders } from './packs/pack-headers.ts'
import { readCommits, receiptIds, standing } from './points/commits.ts'
import { isExpired } from './points/expired.ts'
import { holdPoint, readHolds, releasePoint } from './points/holds.ts'
import type { RepositoryState } from './repository-state.ts'

const DATA = [PREFIX.generations, PREFIX.ends, PREFIX.sessions, PREFIX.packs, PREFIX.log]
const MAX_THREADS = 8
const MIN_PREFIX_DIGITS = 4

export { tellsDestroyed } from './keys/unwrap.ts'
export { Walk } from './listing/walk.ts'
export { isCutIntoPages } from './packs/page-chunks.ts'

/**
 * Makes a repository in an empty store. Order in which it becomes durable: companions, wrapped key, and repository.json,
 * by create-if-absent: only with it does the repository exist; of two at once, one wins. Then generation 0, which the
 * first backup makes if this process dies before it. Rejects with `repository-exists`, or with `repository-damaged` where
 * only repository.json is gone: a second one would shut out all that the first one's key had sealed.
 */
export async function createRepository(
  options: RepositoryOptions & {
    service: string
    /** Of the first key, for people. */
    label?: string
  },
): Promise<Repository> {
  const { storage, ambient } = options
  // Data comes after repository.json, so where data is seen and then no repository.json, that was lost.
  const isUsed = await holdsData(storage)
  if ((await storage.size(REPOSITORY)) !== null) throw exists(storage.description)
  if (isUsed) throw lostRecord(storage.description)
  const key = ambient.randomBytes(KEY_BYTES)
  const domain = ambient.randomBytes(DOMAIN_ID_BYTES)
  const keyring = firstKeyring(key, domain)
  const createdAt = new Date(ambient.now()).toISOString()
  const { companions } = await import('./format/companions.ts')
  const files = companions()
  for (const [name, bytes] of Object.entries(files)) await storage.put(name, bytes)
  const record: RepositoryRecord = {
    regain: 'repository',
    format: 1,
    id: ambient.randomBytes(16).toString('hex'),
    service: options.service,
    domain: domain.toString('hex'),
    epoch: FIRST_EPOCH,
    createdAt,
    companions: Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [name, createHash('sha256').update(bytes).digest('hex')]),
    ),
  }
  const state = stateOf(options, record, keyring)
  await writeFirstKey(state, options.keys[0] as KeyProvider, options.label ?? 'first')
  const sealed = encodeClear(keyring.keys, REPOSITORY, record)
  if (!(await storage.create(REPOSITORY, sealed))) throw exists(storage.description)
  await createFirstGeneration(state)
  await storage.setRoomAside?.()
  return new OpenRepository(state)
}

/**
 * Opens with the first key that fits. Rejects with `repository-not-found`, `wrong-key`, `repository-version`, or
 * `repository-damaged` when repository.json is not what was written.
 */
export async function openRepository(options: RepositoryOptions): Promise<Repository> {
  const bytes = await readRepositoryRecord(options)
  const record = decodeClear<RepositoryRecord>(bytes, REPOSITORY, 'repository')
  const { storage, keys: providers, ambient } = options
  const keyring = await openKeyring({ storage, providers, ambient, domain: record.domain, epoch: record.epoch })
  // It may be an epoch behind: a rekey writes it anew after the epoch has begun.
  const epochKeys = keyring.keys.ring.get(record.epoch)
  if (!epochKeys) throw new RegainError('repository-damaged', `${REPOSITORY} is of a key epoch that has ended.`)
  authenticateClear(epochKeys, REPOSITORY, bytes, record)
  return new OpenRepository(stateOf(options, record, keyring))
}

async function readRepositoryRecord(options: RepositoryOptions): Promise<Buffer> {
  try {
    return await options.storage.get(REPOSITORY)
  } catch (error) {
    if (isRegainError(error, 'storage-not-found')) {
      if (await holdsData(options.storage)) throw lostRecord(options.storage.description)
      throw new RegainError('repository-not-found', `There is no repository at ${options.storage.description}.`, {
        cause: error,
      })
    }
    throw error
  }
}

/** Whether anything is there that is only ever written to a repository which exists. */
async function holdsData(storage: Storage): Promise<boolean> {
  for (const prefix of DATA) for await (const _ of storage.list(prefix)) return true
  return false
}

function lostRecord(where: string): RegainError {
  return new RegainError(
    'repository-damaged',
    `The repository at ${where} has lost its ${REPOSITORY}; what else was stored is still there. Nothing was changed.`,
    {
      hint: `Bring ${REPOSITORY} back from a copy of this repository. Without it only recover.py can restore: docs/how-to/recover-without-regain.md`,
    },
  )
}

function stateOf(options: RepositoryOptions, record: RepositoryRecord, keyring: Keyring): RepositoryState {
  const threads = options.workers ?? Math.min(availableParallelism(), MAX_THREADS)
  const { storage } = options
  const { keys, identity, epochKeys } = keyring
  const localDirectory = storage.localDirectory ?? null
  return {
    id: record.id,
    service: record.service,
    storage,
    ambient: options.ambient,
    keys,
    keyring,
    pool: new ComputePool({ domain: keys.domain, identity, keys: [...epochKeys], localDirectory }, threads),
    headers: new PackHeaders(storage, keys),
  }
}

class OpenRepository implements Repository {
  readonly id: string
  readonly service: string
  readonly location: string
  readonly keyEpoch: Repository['keyEpoch']
  private readonly state: RepositoryState

  constructor(state: RepositoryState) {
    this.id = state.id
    this.service = state.service
    this.location = state.storage.description
    this.keyEpoch = { current: state.keys.epoch, oldest: state.keyring.oldest }
    this.state = state
  }

  async points(filter: { source?: string } = {}): Promise<Point[]> {
    // Listed before the commits: a receipt is written after its commit, so one without a commit tells of a lost point.
    const committed = await receiptIds(this.state)
    const commits = await readCommits(this.state, {
      damaged: (object, error) => {
        committed.delete(lastComponent(object))
        this.state.ambient.log('error', `A recovery point can't be read: ${error.message}`, { object })
      },
    })
    for (const { point } of commits) committed.delete(point.id)
    for (const id of committed) {
      if (await isExpired(this.state, id)) continue
      this.state.ambient.log('error', `Recovery point ${id} was committed and is gone: see regain verify.`)
    }
    return commits
      .map((commit) => commit.point)
      .filter((point) => filter.source === undefined || point.source === filter.source)
  }

  async findPoint(idOrPrefix: string): Promise<Point> {
    const matches = (await this.points()).filter((point) => point.id.startsWith(idOrPrefix))
    const [match] = matches
    if (match && matches.length === 1 && idOrPrefix.length >= MIN_PREFIX_DIGITS) return match
    const reason =
      matches.length > 1
        ? `${matches.length} recovery points begin with ${idOrPrefix}: give more digits.`
        : `There is no recovery point ${idOrPrefix}.`
    throw new RegainError('point-not-found', reason)
  }

  standing: Repository['standing'] = (id) => standing(this.state, id)

  // The parts of the engine are loaded when they are needed: to list points takes a fifth of them.

  startPoint: Repository['startPoint'] = async (request) =>
    (await import('./points/point-writer.ts')).startPoint(this.state, request)

  async openPoint(id: string, options: { signal: AbortSignal }): Promise<OpenPoint> {
    const { openPointReader } = await import('./points/open-point.ts')
    return openPointReader(this.state, id, options.signal)
  }

  log: Repository['log'] = (source) => sourceLog(this.state, source)

  async verify(options: Parameters<Repository['verify']>[0]): ReturnType<Repository['verify']> {
    const { verifyRepository } = await import('./verify/verify.ts')
    const report = await verifyRepository(this.state, options)
    // What is sealed in an epoch that began meanwhile looks damaged to whoever has no key of it.
    if (report.problems.length > 0 && this.state.keyring.unopened === null)
      await requireCurrentEpoch(this.state, options.signal)
    return report
  }

  planRepair: Repository['planRepair'] = async (options) =>
    (await import('./verify/repair.ts')).makeRepairPlan(this.state, options)

  repair: Repository['repair'] = async (plan, options) => {
    await this.requireOpened()
    return (await import('./verify/repair.ts')).carryOutRepair(this.state, plan, options)
  }

  giveUpLostPoints: Repository['giveUpLostPoints'] = async (signal) =>
    (await import('./verify/lost-points.ts')).giveUpLostPoints(this.state, signal)

  planFetch: Repository['planFetch'] = async (problems, from, signal) =>
    (await import('./refetch/fetch.ts')).planFetch(problems, from, signal)

  fetch: Repository['fetch'] = async (plan, from, options) => {
    await this.requireOpened()
    return (await import('./refetch/fetch.ts')).carryOutFetch(this.state, plan, from, options)
  }

  planPrune: Repository['planPrune'] = async (request) =>
    (await import('./collector/plan.ts')).planPrune(this.state, request)

  prune: Repository['prune'] = async (plan, options) => {
    await this.requireOpened()
    return (await import('./collector/prune.ts')).prune(this.state, plan, options)
  }

  /** What may be of a later epoch that can't be opened is not to be judged, nor added to. */
  private async requireOpened(): Promise<void> {
    if (this.state.keyring.unopened !== null) await requireCurrentEpoch(this.state)
  }

  async holds(): ReturnType<Repository['holds']> {
    return [...(await readHolds(this.state)).values()]
  }

  hold: Repository['hold'] = (id, reason) => holdPoint(this.state, id, reason)

  release: Repository['release'] = (id) => releasePoint(this.state, id)

  keys: Repository['keys'] = () => listAllKeys(this.state)

  addKey: Repository['addKey'] = (provider, label) => addKey(this.state, provider, label)

  removeKey: Repository['removeKey'] = (kek) => removeKey(this.state, kek)

  destroyKeys: Repository['destroyKeys'] = () => destroyKeys(this.state)
  lockedKeys: Repository['lockedKeys'] = () => lockedKeys(this.state)

  beginRekey: Repository['beginRekey'] = async (atHand) =>
    (await import('./rekey/begin.ts')).beginEpoch(this.state, atHand)

  rekey: Repository['rekey'] = async (options) => (await import('./rekey/rekey.ts')).rekey(this.state, options)

  async close(): Promise<void> {
    await this.state.pool.close()
    eraseKeyring(this.state.keyring)
  }
}

function exists(description: string): RegainError {
  return new RegainError('repository-exists', `There is a repository at ${description} already. It was not touched.`)
}
