import { createHash } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { isRegainError, RegainError } from '../errors.ts'
import type { KeyProvider } from '../keys/contract.ts'
import type { Point } from '../model.ts'
import type { Storage } from '../storage/contract.ts'
import type { OpenPoint, Repository, RepositoryOptions } from './api.ts'
import { planPrune } from './collector/plan.ts'
import { prune } from './collector/prune.ts'
import { readCommits, receiptIds } from './commits.ts'
import { ComputePool } from './compute/pool.ts'
import { authenticateClear, decodeClear, encodeClear, type KeyRecord, type RepositoryRecord } from './format/clear.ts'
import { companions } from './format/companions.ts'
import { DOMAIN_ID_BYTES, deriveDomainKeys, KEY_BYTES, KNOWN_EPOCH } from './format/domain-keys.ts'
import { lastComponent, PREFIX, REPOSITORY } from './format/object-names.ts'
import { createFirstGeneration } from './generations.ts'
import { keyName, listKeyNames } from './key-objects.ts'
import { sourceLog } from './log-store.ts'
import { openPointReader } from './open-point.ts'
import { startPoint } from './point-writer.ts'
import type { RepositoryState } from './repository-state.ts'
import { unwrapDomainKey } from './unwrap.ts'
import { verifyRepository } from './verify.ts'

const DATA = [PREFIX.generations, PREFIX.ends, PREFIX.sessions, PREFIX.packs, PREFIX.log]
const MAX_THREADS = 8
const MIN_PREFIX_DIGITS = 4

/**
 * Makes a repository in an empty store. Order in which it becomes durable: companions, wrapped key, and repository.json,
 * by create-if-absent: only with it does the repository exist; of two at once, one wins. Then generation 0, which the
 * first backup makes if this process dies before it. Rejects with `repository-exists`, or with `repository-damaged` where
 * only repository.json is gone: a second one would shut out all that the first one's key had sealed.
 */
export async function createRepository(options: RepositoryOptions & { service: string }): Promise<Repository> {
  const { storage, ambient } = options
  // Data comes after repository.json, so where data is seen and then no repository.json, that was lost.
  const isUsed = await holdsData(storage)
  if ((await storage.size(REPOSITORY)) !== null) throw exists(storage.description)
  if (isUsed) throw lostRecord(storage.description)
  const key = ambient.randomBytes(KEY_BYTES)
  const domain = ambient.randomBytes(DOMAIN_ID_BYTES)
  const keys = deriveDomainKeys(key, domain, 1)
  const createdAt = new Date(ambient.now()).toISOString()
  const files = companions()
  for (const [name, bytes] of Object.entries(files)) await storage.put(name, bytes)
  const record: RepositoryRecord = {
    regain: 'repository',
    format: 1,
    id: ambient.randomBytes(16).toString('hex'),
    service: options.service,
    domain: domain.toString('hex'),
    epoch: 1,
    createdAt,
    companions: Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [name, createHash('sha256').update(bytes).digest('hex')]),
    ),
  }
  const state = stateOf(options, record, key)
  await writeKey(state, options.keys[0] as KeyProvider, key, 'first')
  if (!(await storage.create(REPOSITORY, encodeClear(keys, REPOSITORY, record)))) throw exists(storage.description)
  await createFirstGeneration(state)
  return new OpenRepository(state, key)
}

/**
 * Opens with the first key that fits. Rejects with `repository-not-found`, `wrong-key`, `repository-version`, or
 * `repository-damaged` when repository.json is not what was written.
 */
export async function openRepository(options: RepositoryOptions): Promise<Repository> {
  const bytes = await readRepositoryRecord(options)
  const record = decodeClear<RepositoryRecord>(bytes, REPOSITORY, 'repository')
  if (record.epoch !== KNOWN_EPOCH)
    throw new RegainError(
      'repository-version',
      `The repository is in key epoch ${record.epoch}, which this version of Regain does not know.`,
    )
  const key = await unwrapDomainKey(options, record)
  const state = stateOf(options, record, key)
  authenticateClear(state.keys, REPOSITORY, bytes, record)
  return new OpenRepository(state, key)
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

function stateOf(options: RepositoryOptions, record: RepositoryRecord, key: Buffer): RepositoryState {
  const domain = Buffer.from(record.domain, 'hex')
  const threads = options.workers ?? Math.min(availableParallelism(), MAX_THREADS)
  const { storage } = options
  return {
    id: record.id,
    service: record.service,
    storage,
    ambient: options.ambient,
    keys: deriveDomainKeys(key, domain, record.epoch),
    pool: new ComputePool(
      { domain, epoch: record.epoch, key, localDirectory: storage.localDirectory ?? null },
      threads,
    ),
  }
}

async function writeKey(state: RepositoryState, provider: KeyProvider, key: Buffer, label: string): Promise<void> {
  const wrapped = await provider.wrap(key)
  const which = { domain: state.keys.domain.toString('hex'), epoch: state.keys.epoch }
  const name = keyName(which, wrapped.kek)
  const addedAt = new Date(state.ambient.now()).toISOString()
  const others = (await listKeyNames(state.storage, which)).filter((sibling) => sibling !== name)
  const record: KeyRecord = {
    regain: 'key',
    format: 1,
    ...which,
    label,
    addedAt,
    siblings: others,
    ...wrapped,
  }
  await state.storage.put(name, encodeClear(state.keys, name, record))
}

class OpenRepository implements Repository {
  readonly id: string
  readonly service: string
  private readonly state: RepositoryState
  private readonly key: Buffer

  constructor(state: RepositoryState, key: Buffer) {
    this.id = state.id
    this.service = state.service
    this.state = state
    this.key = key
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
    for (const id of committed)
      this.state.ambient.log('error', `Recovery point ${id} was committed and is gone: see regain verify.`)
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

  startPoint: Repository['startPoint'] = (request) => startPoint(this.state, request)

  openPoint(id: string, options: { signal: AbortSignal }): Promise<OpenPoint> {
    return openPointReader(this.state, id, options.signal)
  }

  log: Repository['log'] = (source) => sourceLog(this.state, source)

  verify: Repository['verify'] = (options) => verifyRepository(this.state, options)

  planPrune: Repository['planPrune'] = (request) => planPrune(this.state, request)

  prune: Repository['prune'] = (plan, options) => prune(this.state, plan, options)

  async keys(): ReturnType<Repository['keys']> {
    const found = []
    const { keys, storage } = this.state
    for (const name of await listKeyNames(storage, { domain: keys.domain.toString('hex'), epoch: keys.epoch })) {
      const bytes = await storage.get(name)
      const record = decodeClear<KeyRecord>(bytes, name, 'key')
      authenticateClear(keys, name, bytes, record)
      found.push(record)
    }
    return found
  }

  addKey(provider: KeyProvider, label: string): Promise<void> {
    return writeKey(this.state, provider, this.key, label)
  }

  async close(): Promise<void> {
    await this.state.pool.close()
    this.key.fill(0)
  }
}

function exists(description: string): RegainError {
  return new RegainError('repository-exists', `There is a repository at ${description} already. It was not touched.`)
}
