import { constants } from 'node:fs'
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { RegainError, throwIfInterrupted } from '../../../errors.ts'
import { ifAbsent } from '../../../filesystem/system-error.ts'
import type { LogStore } from '../../contract.ts'
import { logOwner } from '../log/log-identity.ts'
import { checkSegmentBytes, isSegmentName, parseHistoryName, parseSegmentName, segmentName } from '../log/wal.ts'
import { systemOf } from '../server/server-disk.ts'
import type { GuardedRecovery } from './new-tablespaces.ts'
import { guardRecovery, type RecoveryGuard } from './recovery-guard.ts'
import { isDamaged } from './sound-log.ts'

export interface FetchRequest {
  store: LogStore
  /** What PostgreSQL asks for (%f): a segment, a history file, or something that no repository holds. */
  name: string
  /** Absolute path of the file to make (%p). */
  target: string
  /** Folder for segments fetched ahead; null: none are. */
  spool: string | null
  /** File that says which recovery it is for (recovery-script.ts); null: nobody's that we prepared. */
  guard: string | null
  signal: AbortSignal
}

/** Exit status of `regain log fetch` when there is no such file: distinct from every failure, which must stop recovery. */
export const ABSENT_EXIT = 44

/** Segments fetched ahead, and what they may take. */
const AHEAD = 16
const AHEAD_BYTES = 256 * 1024 * 1024
const AT_ONCE = 4

/**
 * Brings one file of the log to where PostgreSQL wants it, atomically, and the segments after it into the spool. False
 * if the store does not have it. Rejects when it cannot be told or read whole: then recovery must stop, not end early.
 */
export async function fetchLog(request: FetchRequest): Promise<boolean> {
  const { store, name, target, spool } = request
  const guard = request.guard === null ? null : await readGuard(request.guard, store, request.signal)
  const [bytes] = await Promise.all([readLogFile(store, name), checkAsker(store, target)])
  if (!bytes) return false
  await guard?.admit(name, bytes)
  await writeAtomically(target, bytes, null)
  if (spool !== null && isSegmentName(name)) await fetchAhead(request, spool, bytes.length, guard)
  return true
}

/** The server asks from its data directory, for a file in its pg_wal: of another cluster it must not get any. */
async function checkAsker(store: LogStore, target: string): Promise<void> {
  // Asked by hand, or by another user: then there is nothing to compare.
  const asker = await systemOf(dirname(dirname(target))).catch(() => null)
  const owner = asker === null ? null : await logOwner(store)
  if (owner === null || asker === owner) return
  throw new RegainError(
    'log-conflict',
    `The server that asks is another cluster (system identifier ${asker}) than the one whose log the repository holds (${owner}).`,
    { hint: 'Correct its restore_command.' },
  )
}

/**
 * A file of the log as PostgreSQL expects it, or null. Of an unfinished segment what there is, filled up with zeros:
 * recovery ends where the zeros begin.
 */
export async function readLogFile(store: LogStore, name: string): Promise<Buffer | null> {
  if (parseHistoryName(name) !== null) return store.readHistory(name)
  if (!isSegmentName(name)) return null
  const piece = await store.read(name.slice(0, 8), name)
  if (!piece) return null
  return piece.whole ? piece.bytes : padSegment(piece.bytes, name)
}

/**
 * Whole segments only: what is unfinished now may be finished when its turn comes. Null as well if it has to be thought about, or is
 * damaged: that stops a recovery which asks for it, and the one to a moment before it never does.
 */
export async function readAhead(store: LogStore, name: string, guard: RecoveryGuard | null): Promise<Buffer | null> {
  try {
    const piece = await store.read(name.slice(0, 8), name)
    if (!piece?.whole) return null
    return guard === null || (await guard.isHarmless(name, piece.bytes)) ? piece.bytes : null
  } catch (error) {
    if (isDamaged(error)) return null
    throw error
  }
}

/** Names of the segments after `name`, as many as may be kept ahead. */
export function namesAhead(name: string, segmentBytes: number): string[] {
  const segment = parseSegmentName(name, segmentBytes)
  if (!segment) return []
  const count = Math.max(1, Math.min(AHEAD, Math.floor(AHEAD_BYTES / segmentBytes)))
  return Array.from({ length: count }, (_, i) =>
    segmentName(segment.timeline, segment.number + BigInt(i + 1), segmentBytes),
  )
}

/** Counts part files of this process, so that no two of them share a name. */
let parts = 0

/** Makes `path` hold `bytes`, never half of them. Not durable: recovery asks again after a crash. */
export async function writeAtomically(
  path: string,
  bytes: Buffer,
  owner: { uid: number; gid: number } | null,
): Promise<void> {
  const part = join(dirname(path), `part.${process.pid}-${process.hrtime.bigint()}-${parts++}`)
  // Never through a link: the folder may belong to another user than us.
  const file = await open(part, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
  try {
    await file.writeFile(bytes)
    if (owner) await file.chown(owner.uid, owner.gid)
    await file.close()
    await rename(part, path)
  } catch (error) {
    // It may be closed, and what failed before is what matters.
    await file.close().catch(() => undefined)
    await rm(part, { force: true })
    throw error
  }
}

/** What was written beside the script. What does not read as that must stop recovery: nothing would be guarded. */
async function readGuard(path: string, store: LogStore, signal: AbortSignal): Promise<RecoveryGuard> {
  try {
    const recovery = JSON.parse(await readFile(path, 'utf8')) as GuardedRecovery
    // It lies in a folder of the data directory.
    return guardRecovery(recovery, dirname(dirname(path)), store, signal)
  } catch (error) {
    throw new RegainError(
      'precondition-failed',
      `${path}, which says what is recovered, cannot be read: ${(error as Error).message}`,
      { hint: 'Restore again.' },
    )
  }
}

async function fetchAhead(
  request: FetchRequest,
  spool: string,
  segmentBytes: number,
  guard: RecoveryGuard | null,
): Promise<void> {
  await mkdir(spool, { recursive: true, mode: 0o700 })
  const names = namesAhead(request.name, segmentBytes)
  const take = async (): Promise<void> => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      throwIfInterrupted(request.signal)
      const path = join(spool, name)
      if (await stat(path).catch(ifAbsent(null))) continue
      const bytes = await readAhead(request.store, name, guard)
      // Its time comes when it is asked for.
      if (!bytes) names.length = 0
      else await writeAtomically(path, bytes, null)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, take))
}

/** The size stands in the header of the segment's first page, at offset 32 (XLogLongPageHeaderData). */
function padSegment(bytes: Buffer, name: string): Buffer | null {
  // Less than a header is no log: what came before it is all there is.
  if (bytes.length < 40) return null
  const segmentBytes = checkSegmentBytes(bytes.readUInt32LE(32))
  if (bytes.length > segmentBytes) {
    throw new RegainError('repository-damaged', `The unfinished segment ${name} is longer than a segment.`)
  }
  return Buffer.concat([bytes, Buffer.alloc(segmentBytes - bytes.length)])
}
