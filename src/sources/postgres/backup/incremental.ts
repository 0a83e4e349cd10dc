import { isRegainError } from '../../../errors.ts'
import type { Entry } from '../../../model.ts'
import type { BackupOptions, BasePoint, LogStore, PointWriter } from '../../contract.ts'
import { parseConflictName, segmentName, segmentNumber } from '../log/wal.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'
import type { ServerFacts } from '../server/server-facts.ts'
import { leaveOut } from './combined-manifest.ts'
import { chunkingOf } from './file-sinks.ts'
import { positionsOf } from './positions.ts'
import { historyDoubt } from './same-history.ts'

/** The first version whose server can tell which blocks changed. */
export const INCREMENTAL_MAJOR = 17
/** Of 100,000 relations it has some 20 MB. */
const MAX_MANIFEST_BYTES = 1024 * 1024 * 1024

/** What a server needs to send changed blocks only, and what they are laid over. */
export interface IncrementalBase {
  /** To be uploaded: files that are not in it are sent whole. */
  manifest: Buffer
  /** Files of the last point whose content can be patched, by path. */
  entries: ReadonlyMap<string, Entry>
}

/**
 * Prepares an incremental backup against the last point. Null, with the reason told by `warn`, when the whole cluster must
 * be read. Files whose chunks are lost or marked for removal, and those that the last point knows to be damaged, are left
 * out of the manifest: the server sends them whole, which heals them.
 */
export async function prepareIncremental(
  config: ConnectionConfig,
  writer: PointWriter,
  log: LogStore,
  facts: ServerFacts,
  options: BackupOptions,
): Promise<IncrementalBase | null> {
  if (options.kind === 'full') return null
  if (writer.base === null) {
    options.warn('There is no earlier point of this source to build on: the whole cluster is read.')
    return null
  }
  const reason =
    obstacle(writer.base, facts) ??
    (await conflictSince(writer.base, log)) ??
    (await historyDoubt(config, log, positionsOf(writer.base.point), facts, options.signal))
  if (reason !== null) {
    options.warn(`The whole cluster is read: ${reason} What has not changed is not stored again.`)
    return null
  }
  try {
    const base = await readBase(writer, writer.base)
    if (base === null)
      options.warn('The whole cluster is read: the last point has no manifest that the server could take.')
    return base
  } catch (error) {
    if (!isRegainError(error, 'repository-damaged') && !isRegainError(error, 'storage-not-found')) throw error
    options.warn(`The whole cluster is read: the last point is damaged in the repository. ${error.message}`)
    return null
  }
}

function obstacle(base: BasePoint, facts: ServerFacts): string | null {
  if (facts.major < INCREMENTAL_MAJOR) return `PostgreSQL ${facts.major} can not tell what changed; 17 and later can.`
  if (!facts.summarizesWal)
    return 'summarize_wal is off. Turn it on: ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();'
  const { major } = positionsOf(base.point)
  return major === facts.major ? null : `the last point is of PostgreSQL ${major}.`
}

/**
 * A server that sent other log than it did before has forgotten what it did: a copy of its former self that was put back, as
 * a rule. Blocks that it had changed before the last point, and not again since, it takes for unchanged.
 */
async function conflictSince(base: BasePoint, log: LogStore): Promise<string | null> {
  const { timeline, startLsn, segmentBytes } = positionsOf(base.point)
  const first = segmentName(timeline, segmentNumber(startLsn, segmentBytes), segmentBytes)
  const { histories } = await log.list()
  // Positions on whatever timeline: the last 16 digits.
  const conflict = histories
    .map(parseConflictName)
    .find((segment) => segment !== null && segment.slice(8) >= first.slice(8))
  if (conflict === undefined) return null
  return `since the last point the server has sent other log than before (${conflict}), so it can not tell what changed since.`
}

async function readBase(writer: PointWriter, base: BasePoint): Promise<IncrementalBase | null> {
  const damaged = new Set(base.point.missed.map(({ path }) => path))
  const entries = new Map<string, Entry>()
  let manifest: Entry | null = null
  for await (const entry of base.entries()) {
    if (entry.path === 'backup_manifest') manifest = entry
    if (entry.type !== 'file' || chunkingOf(entry.path) !== 'pages' || damaged.has(entry.path)) continue
    // Of an empty file there is nothing to build on, and in clusters of many relations most are.
    if (entry.size === 0 || !(await writer.isPatchable(entry))) continue
    entries.set(entry.path, entry)
  }
  if (manifest === null || (manifest.size ?? 0) > MAX_MANIFEST_BYTES) return null
  const pieces: Buffer[] = []
  for await (const piece of base.content(manifest)) pieces.push(Buffer.from(piece))
  const isLost = (path: string) => chunkingOf(path) === 'pages' && !entries.has(path)
  return { manifest: leaveOut(Buffer.concat(pieces), isLost), entries }
}
