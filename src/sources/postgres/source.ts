import { RegainError, throwIfInterrupted } from '../../errors.ts'
import type { Ambient, Fingerprint, Point, PointKind } from '../../model.ts'
import type {
  BackupOptions,
  LogStore,
  PointWriter,
  RestoreMoment,
  Source,
  SourceOptions,
  SourceSummary,
} from '../contract.ts'
import { type BaseBackup, takeBaseBackup } from './backup/base-backup.ts'
import { type IncrementalBase, prepareIncremental } from './backup/incremental.ts'
import { PointLog } from './backup/point-log.ts'
import { toRecord } from './backup/positions.ts'
import { replayedUntil } from './backup/standby-clock.ts'
import { checkPostgres } from './check.ts'
import { takeFingerprint } from './fingerprint/take-fingerprint.ts'
import { claimLog, storeHistory } from './log/log-identity.ts'
import { checkSlotName } from './log/slot.ts'
import { createPartsRestore } from './parts/restore-parts.ts'
import { chooseServer } from './protocol/choose-server.ts'
import { connectReplication } from './protocol/connection.ts'
import { sqlStateOf } from './protocol/connection-errors.ts'
import {
  type ConnectionConfig,
  describeConnection,
  describeServers,
  parseServerUrl,
  type ServerUrl,
} from './protocol/connection-url.ts'
import { type Lsn, laterLsn } from './protocol/lsn.ts'
import type { RecoveryPlan } from './recovery/plan.ts'
import { planRecovery } from './recovery/recovery-log.ts'
import { restorePostgres } from './recovery/restore.ts'
import type { BinarySearch } from './server/programs.ts'
import { readServerFacts, type ServerFacts, serverClock } from './server/server-facts.ts'

export interface PostgresSourceConfig {
  url: string
  log: 'continuous' | 'none'
  /** Of the follower: see defaultSlotName. */
  slot: string
  /** Whether counts and definitions are taken down with each point. Default: no. */
  fingerprint?: boolean
  /** Of all followers of the configuration. Default: this one. */
  slotsInUse?: readonly string[]
}

export interface PostgresSourceContext {
  log: LogStore
  ambient: Ambient
  /** Program and arguments, `regain --config FILE log fetch SERVICE/SOURCE`: how a restored server gets its log. */
  fetchCommand: readonly string[]
  /** Where server programs are looked for. */
  search: BinarySearch
  /** What clients of PostgreSQL may take from our own environment: passwords, where they are kept. Default: nothing. */
  clientEnvironment?: Readonly<Record<string, string>>
}

export interface PostgresSource extends Source {
  /** Which of `points` a restore to `at` begins with. Rejects with `moment-unreachable`, naming the furthest moment. */
  plan(points: readonly Point[], at: RestoreMoment, signal: AbortSignal): Promise<RecoveryPlan>
}

/** A whole PostgreSQL cluster, 13 to 18, over the replication protocol. */
export function createPostgresSource(source: PostgresSourceConfig, context: PostgresSourceContext): PostgresSource {
  const url = parseServerUrl(source.url)
  const { user, database } = url.candidates[0]!
  const slot = checkSlotName(source.slot)
  return {
    type: 'postgres',
    unordered: true,
    description: describeServers(url),
    check: ({ signal }) =>
      checkPostgres({
        url,
        slot,
        slotsInUse: source.slotsInUse ?? [slot],
        continuous: source.log === 'continuous',
        signal,
      }),
    backup: (writer, options) => backup(url, source, context, writer, options),
    restore: (reader, target, options) =>
      restorePostgres(reader, target, options, {
        store: context.log,
        fetchCommand: context.fetchCommand,
        search: context.search,
        user,
        database,
      }),
    parts: createPartsRestore({
      store: context.log,
      search: context.search,
      user,
      database,
      environment: context.clientEnvironment ?? {},
    }),
    plan: (points, at, signal) => planRecovery(points, context.log, at, signal),
  }
}

async function backup(
  url: ServerUrl,
  { slot, fingerprint }: PostgresSourceConfig,
  context: PostgresSourceContext,
  writer: PointWriter,
  options: BackupOptions,
): Promise<SourceSummary> {
  writer.expectContent()
  const config = await chooseServer(url, options.signal)
  const facts = await readServerFacts(config, options.signal)
  checkSameCluster(writer, facts)
  await claimLog(context.log, facts.systemId)
  const base = await prepareIncremental(config, writer, context.log, facts, options)
  const { taken, stopTime, kind } = await takeWithLog(config, slot, context, writer, options, facts, base).catch(
    async (error: unknown) => {
      throw facts.standby ? await explainStandby(error, config, options.signal) : error
    },
  )
  return {
    kind,
    root: facts.dataDirectory ?? describeConnection(config),
    positions: toRecord({
      systemId: facts.systemId,
      version: facts.version,
      major: facts.major,
      timeline: taken.timeline,
      startLsn: taken.startLsn,
      stopLsn: taken.stopLsn,
      startTime: facts.now,
      stopTime,
      segmentBytes: facts.segmentBytes,
      dataChecksums: facts.dataChecksums,
      standby: facts.standby,
      machine: facts.machine,
      serverStartedAt: facts.startedAt,
      tablespaces: taken.tablespaces,
      settings: facts.settings,
    }),
    sourceBytes: taken.bytes,
    missed: taken.missed,
    ...(fingerprint === true ? await fingerprintOf(config, context, options) : {}),
  }
}

/**
 * After the copy: the moment that it is consistent at is the nearest that a restore can reach. It is no part of the backup,
 * which does not fail for want of it. Rows of unlogged tables are in no physical copy.
 */
async function fingerprintOf(
  config: ConnectionConfig,
  { ambient }: PostgresSourceContext,
  { signal, warn }: BackupOptions,
): Promise<{ fingerprint?: Fingerprint }> {
  try {
    const isLeftOut = ({ unlogged }: { unlogged: boolean }) => unlogged
    return { fingerprint: await takeFingerprint({ config, signal, now: ambient.now, isLeftOut }) }
  } catch (error) {
    throwIfInterrupted(signal)
    warn(`The point has no counts to compare a restore with: ${error instanceof Error ? error.message : String(error)}`)
    return {}
  }
}

/** The backup is done only when the log that it needs is durable too. */
async function takeWithLog(
  config: ConnectionConfig,
  slot: string,
  context: PostgresSourceContext,
  writer: PointWriter,
  options: SourceOptions,
  facts: ServerFacts,
  base: IncrementalBase | null,
): Promise<{ taken: BaseBackup; stopTime: string; kind: PointKind }> {
  const log = await PointLog.open({
    config,
    store: context.log,
    ambient: context.ambient,
    slot,
    segmentBytes: facts.segmentBytes,
    standby: facts.standby,
    beganMs: Date.parse(facts.now),
    options,
  })
  try {
    const taken = await takeFromBase(config, log, writer, options, facts, base)
    await writer.allRead()
    const connection = await connectReplication(config, options.signal)
    try {
      const end = facts.standby
        ? await standbyEnd(config, taken.stopLsn, options.signal)
        : { time: await serverClock(config, options.signal), lsn: taken.stopLsn }
      options.progress({ phase: 'log', bytesDone: taken.bytes, bytesTotal: taken.bytes })
      await storeHistory(connection, context.log, taken.timeline)
      await log.finish(end.lsn)
      return { taken, stopTime: end.time, kind: taken.incremental ? 'incremental' : 'full' }
    } finally {
      await connection.close()
    }
  } finally {
    await log.close()
  }
}

/**
 * What a point of a standby is complete to: its clock tells nothing of what the primary has acknowledged meanwhile, but the
 * last transaction that it has replayed does. The point's log goes on to there.
 */
async function standbyEnd(
  config: ConnectionConfig,
  stopLsn: Lsn,
  signal: AbortSignal,
): Promise<{ time: string; lsn: Lsn }> {
  const { end, time } = await replayedUntil(config, signal)
  return { time, lsn: laterLsn(stopLsn, end) }
}

/** SQLSTATE object_not_in_prerequisite_state: how a standby refuses to go on with a backup. */
const NOT_NOW = '55000'

/** The server's refusal in words that say what to do. */
async function explainStandby(error: unknown, config: ConnectionConfig, signal: AbortSignal): Promise<unknown> {
  if (sqlStateOf(error) !== NOT_NOW || signal.aborted) return error
  const { standby } = await readServerFacts(config, signal)
  const where = describeConnection(config)
  if (!standby)
    return new RegainError('source-unavailable', `${where} was promoted during the backup. Nothing of it is kept.`, {
      cause: error,
      hint: 'Take it again: the new primary, or another standby, can be backed up now.',
    })
  return new RegainError('source-unsuitable', (error as Error).message, {
    cause: error,
    hint: 'A standby can be backed up when full_page_writes is on at its primary, and was since the last checkpoint: ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf(); CHECKPOINT; there.',
  })
}

function checkSameCluster(writer: PointWriter, facts: ServerFacts): void {
  const before = writer.base?.point.positions.systemId
  if (before === undefined || before === facts.systemId) return
  throw new RegainError(
    'log-conflict',
    `The server is another cluster (system identifier ${facts.systemId}) than the one whose points the repository holds (${String(before)}). Nothing was stored.`,
    { hint: 'Correct the URL; or, if the cluster was made anew, give it a source of its own in regain.yaml.' },
  )
}

/** What has changed since `base`; all of it if there is none, or if the server says that it can't tell what changed. */
async function takeFromBase(
  config: ConnectionConfig,
  log: PointLog,
  writer: PointWriter,
  options: SourceOptions,
  facts: ServerFacts,
  base: IncrementalBase | null,
): Promise<BaseBackup & { incremental: boolean }> {
  let hasBegun = false
  const take = async (incremental: IncrementalBase | null) => {
    const connection = await connectReplication(config, options.signal)
    try {
      return await takeBaseBackup({
        connection,
        major: facts.major,
        blockBytes: facts.blockBytes,
        incremental,
        writer,
        label: 'regain',
        options,
        started: ({ timeline, lsn }) => {
          hasBegun = true
          log.begin(timeline, lsn)
        },
      })
    } finally {
      await connection.close()
    }
  }
  if (base === null) return { ...(await take(null)), incremental: false }
  try {
    return { ...(await take(base)), incremental: true }
  } catch (error) {
    // What a server refuses, it refuses before it sends anything: expired summaries, a timeline left behind.
    if (hasBegun || sqlStateOf(error) === '' || options.signal.aborted) throw error
    const { message } = error as Error
    options.warn(`The whole cluster is read, because the server refused to send only what changed: ${message}`)
    return { ...(await take(null)), incremental: false }
  }
}
