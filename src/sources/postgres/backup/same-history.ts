import { isRegainError } from '../../../errors.ts'
import type { LogStore } from '../../contract.ts'
import { branchName, segmentName, segmentNumber, segmentStart } from '../log/wal.ts'
import { connectReplication } from '../protocol/connection.ts'
import { sqlStateOf } from '../protocol/connection-errors.ts'
import type { ConnectionConfig } from '../protocol/connection-url.ts'
import { formatLsn } from '../protocol/lsn.ts'
import { WalReader } from '../protocol/wal-messages.ts'
import type { ServerFacts } from '../server/server-facts.ts'
import type { Positions } from './positions.ts'

/**
 * Whether the server still is what it was when a point was taken, and not a copy of its former self that was put back (a
 * virtual machine's snapshot) and has grown beyond its old end since: such a server takes for unchanged what it has
 * forgotten. It is the same if it has run without a break since before the point; else if it sends, for the segment in
 * which the point ended, the very bytes that the repository holds. Null: it is. Otherwise why that is not certain, for people.
 */
export async function historyDoubt(
  config: ConnectionConfig,
  log: LogStore,
  point: Positions,
  facts: ServerFacts,
  signal: AbortSignal,
): Promise<string | null> {
  if (point.serverStartedAt !== null && point.serverStartedAt === facts.startedAt) return null
  const again = 'the server was started again since the last point'
  const last = point.stopLsn - 1n
  const name = segmentName(point.timeline, segmentNumber(last, point.segmentBytes), point.segmentBytes)
  const bytes = Number(point.stopLsn - segmentStart(last, point.segmentBytes))
  const stored = await log.read(branchName(point.timeline), name)
  if (stored === null || stored.bytes.length < bytes)
    return `${again}, and the repository does not hold the log (${name}) that would prove that nothing was set back.`
  const sent = await readWal(config, point, bytes, signal)
  if (sent === null)
    return `${again}, and it no longer has the log (${name}) that would prove that nothing was set back.`
  if (sent.equals(stored.bytes.subarray(0, bytes))) return null
  return `the server's log (${name}) is not the one that the last point was taken with: it was set back to an older copy.`
}

/** The first bytes of the segment in which the point ended; null if the server does not have them any more. */
async function readWal(
  config: ConnectionConfig,
  point: Positions,
  bytes: number,
  signal: AbortSignal,
): Promise<Buffer | null> {
  const start = formatLsn(segmentStart(point.stopLsn - 1n, point.segmentBytes))
  const connection = await connectReplication(config, signal)
  const pieces: Buffer[] = []
  let received = 0
  const enough = new Error('enough')
  const reader = new WalReader({
    header: ({ serverEnd }) => {
      if (serverEnd < point.stopLsn) connection.abandon(enough)
    },
    wal: (piece, offset) => {
      pieces.push(Buffer.from(piece.subarray(offset)))
      received += piece.length - offset
      if (received >= bytes) connection.abandon(enough)
    },
  })
  try {
    await connection.run(`START_REPLICATION PHYSICAL ${start} TIMELINE ${point.timeline}`, {
      copyData: (piece, first) => reader.push(piece, first),
      // The timeline ends before the point does.
      copyDone: () => connection.abandon(enough),
    })
  } catch (error) {
    // A server that does not have it says so; anything else is a failure of its own.
    if (error !== enough && (isRegainError(error, 'interrupted') || sqlStateOf(error) === '')) throw error
  } finally {
    await connection.close()
  }
  return received < bytes ? null : Buffer.concat(pieces).subarray(0, bytes)
}
