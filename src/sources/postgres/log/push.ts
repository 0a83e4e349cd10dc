import { open } from 'node:fs/promises'
import { basename } from 'node:path'
import { isRegainError, RegainError } from '../../../errors.ts'
import type { LogStore } from '../../contract.ts'
import { formatLsn, type Lsn } from '../protocol/lsn.ts'
import { claimLog } from './log-identity.ts'
import { parseHeader } from './segment-header.ts'
import { parseHistory } from './timeline.ts'
import { branchName, isSegmentName, MAX_SEGMENT_BYTES, parseHistoryName, parseSegmentName, segmentName } from './wal.ts'
import { scanWal } from './wal-records.ts'
import { clusterOfHistory } from './whose-history.ts'

export interface PushRequest {
  store: LogStore
  /** Absolute path of what PostgreSQL hands to its archive_command (%p). */
  path: string
  /** Where it runs it: its data directory, as a rule. */
  workingDirectory: string
}

/** `not-needed`: a note of another tool about a backup of its own, which no recovery of ours reads. */
export type Pushed = 'stored' | 'not-needed'

const HISTORY_LIMIT_BYTES = 1024 * 1024

/**
 * Stores one file of the log for an archive_command; durable when it resolves, since the server then forgets it. The same file
 * again is fine, at once or at the same time. Rejects with `log-conflict`, and changes nothing, if the repository holds
 * other bytes under its name or the log of another cluster: a copy of the server archives to its original's place then.
 */
export async function pushLog(request: PushRequest): Promise<Pushed> {
  const { store, path } = request
  const name = basename(path)
  const timeline = parseHistoryName(name)
  if (timeline !== null) {
    const bytes = await readWhole(path, HISTORY_LIMIT_BYTES)
    checkHistory(name, timeline, bytes)
    await claimLog(store, await requireCluster(request, name, timeline))
    await refusedLoudly(name, () => store.putHistory(name, bytes))
    return 'stored'
  }
  if (/^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$/.test(name)) return 'not-needed'
  const segment = name.replace(/\.partial$/, '')
  if (!isSegmentName(segment))
    throw new RegainError('usage', `${name} is no file of PostgreSQL's log. Nothing was stored.`, {
      hint: "archive_command = 'regain wal push SERVICE/SOURCE %p'",
    })
  const bytes = await readWhole(path, MAX_SEGMENT_BYTES)
  const header = readHeader(bytes, segment)
  await claimLog(store, header.systemId)
  await refusedLoudly(name, () =>
    name === segment ? storeSegment(store, segment, bytes, header) : storePartial(store, segment, bytes, header),
  )
  return 'stored'
}

/** Another cluster's history of the same number would keep the right one out for good. */
async function requireCluster(
  { path, workingDirectory }: PushRequest,
  name: string,
  timeline: number,
): Promise<string> {
  const systemId = await clusterOfHistory(path, timeline, workingDirectory)
  if (systemId !== null) return systemId
  throw new RegainError(
    'precondition-failed',
    `Whose timeline ${name} tells of cannot be seen: it does not say, it is in no pg_wal of a data directory, and there is no segment of the log beside it. Nothing was stored.`,
    {
      hint: 'Hand over the %p of archive_command, or run this where segments of the same archive are, or in the data directory.',
    },
  )
}

/** One that was cut short would stand in the way of the right one for good. Each ends with a line on the timeline that it comes from. */
function checkHistory(name: string, timeline: number, bytes: Buffer): void {
  const fail = (what: string): RegainError =>
    new RegainError('source-unsuitable', `The file ${name} is no whole history: ${what}. Nothing was stored.`)
  const text = bytes.toString('utf8')
  let ancestors: number
  try {
    ancestors = parseHistory(timeline, text).ancestors.length
  } catch (error) {
    if (isRegainError(error, 'repository-damaged')) throw fail('it does not read as one')
    throw error
  }
  if (ancestors === 0 || !text.endsWith('\n')) throw fail('its end is missing')
}

interface Segment {
  systemId: string
  timeline: number
  number: bigint
  start: Lsn
  segmentBytes: number
}

/** What the segment says of itself, which must be what its name says. */
function readHeader(bytes: Buffer, name: string): Segment {
  const fail = (what: string): RegainError =>
    new RegainError(
      'source-unsuitable',
      `The file ${name} is not the segment that it is called: ${what}. Nothing was stored.`,
    )
  const header = parseHeader(bytes)
  if (header === null) throw fail('it does not begin as one')
  const { segmentBytes, systemId } = header
  if (bytes.length !== segmentBytes) throw fail(`it has ${bytes.length} bytes, and says ${segmentBytes}`)
  const id = parseSegmentName(name, segmentBytes)
  if (id === null) throw fail('its name is of no segment of this size')
  const start = id.number * BigInt(segmentBytes)
  if (header.start !== start) throw fail(`it begins at ${formatLsn(header.start)} instead of ${formatLsn(start)}`)
  // Of a new timeline's first segment the beginning is its parent's.
  if (header.timeline > id.timeline) throw fail(`it is of timeline ${header.timeline}`)
  return { systemId, ...id, start, segmentBytes }
}

async function storeSegment(store: LogStore, name: string, bytes: Buffer, header: Segment): Promise<void> {
  const branch = branchName(header.timeline)
  const before = header.number === 0n ? null : segmentName(header.timeline, header.number - 1n, header.segmentBytes)
  const follows = before !== null && (await store.holds(branch, before)) ? { follows: before } : {}
  await store.putSegment(branch, name, bytes, { until: completeUntil(bytes, header.start).until, ...follows })
  await store.dropTails(branch, name)
}

/**
 * What a promoted server leaves of its parent's last segment. Behind the log that it had there may be anything, of an earlier
 * use of the file; and all of it begins the new timeline's segment as well.
 */
async function storePartial(store: LogStore, name: string, bytes: Buffer, header: Segment): Promise<void> {
  const branch = branchName(header.timeline)
  const { until, usedBytes } = completeUntil(bytes, header.start)
  const there = await store.read(branch, name)
  if (usedBytes === 0 || (there !== null && (there.whole || there.bytes.length >= usedBytes))) return
  await store.putTail(branch, name, 0, bytes.subarray(0, usedBytes), { until })
}

/**
 * A transaction's time is taken before its end is written into the log. So whatever was acknowledged before that time stands
 * before it, here or in an earlier segment. Without any the segment tells no time.
 */
function completeUntil(bytes: Buffer, start: Lsn): { until: string; usedBytes: number } {
  const { events, usedBytes } = scanWal(bytes, start, null)
  const times = events
    .filter(({ kind }) => kind === 'transaction')
    .map((event) => ('timeMs' in event ? event.timeMs : 0))
  const latestMs = times.reduce((latest, time) => Math.max(latest, time), 0)
  return { until: new Date(Math.floor(latestMs)).toISOString(), usedBytes }
}

async function refusedLoudly(name: string, store: () => Promise<void>): Promise<void> {
  try {
    await store()
  } catch (error) {
    if (!isRegainError(error, 'log-conflict')) throw error
    throw new RegainError(
      'log-conflict',
      `THE REPOSITORY HOLDS OTHER BYTES UNDER THE NAME ${name}: two servers archive to the same place, or one was set back. Nothing was stored, and the server keeps the file.`,
      {
        cause: error,
        hint: 'If this server is a copy of another one, take its archive_command away (or give it a source of its own). If it is the right one, give it a source of its own: its log can no longer be told from the other’s.',
      },
    )
  }
}

async function readWhole(path: string, limitBytes: number): Promise<Buffer> {
  try {
    const file = await open(path, 'r')
    try {
      const { size } = await file.stat()
      if (size > limitBytes)
        throw new RegainError('usage', `${path} is too large for a file of the log. Nothing was stored.`)
      return await file.readFile()
    } finally {
      await file.close()
    }
  } catch (cause) {
    if (isRegainError(cause)) throw cause
    throw new RegainError('source-unavailable', `${path} cannot be read. Nothing was stored.`, {
      cause,
      hint: 'The server runs archive_command in its data directory: hand over %p, and run it as the server’s user.',
    })
  }
}
