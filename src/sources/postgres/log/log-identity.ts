import { isRegainError, RegainError } from '../../../errors.ts'
import type { LogStore } from '../../contract.ts'
import type { ReplicationConnection } from '../protocol/replication-connection.ts'
import { parseHistory, rootHistory, type TimelineHistory } from './timeline.ts'
import { historyName } from './wal.ts'

/** Object beside the histories that says whose log this is. Content: the system identifier in decimal, a newline. */
const SYSTEM_NAME = 'system'

/**
 * Binds a log store to one cluster: segments are named by timeline and position only, and every cluster has a timeline
 * 1. Rejects with `log-conflict` if the store belongs to another. Idempotent.
 */
export async function claimLog(store: LogStore, systemId: string): Promise<void> {
  try {
    await store.putHistory(SYSTEM_NAME, Buffer.from(`${systemId}\n`))
  } catch (error) {
    if (!isRegainError(error, 'log-conflict')) throw error
    const owner = (await store.readHistory(SYSTEM_NAME))?.toString('utf8').trim() ?? 'unknown'
    throw new RegainError(
      'log-conflict',
      `The server is another cluster (system identifier ${systemId}) than the one whose log the repository holds (${owner}). Nothing was stored.`,
      {
        cause: error,
        hint: 'Correct the URL; or, if the cluster was made anew, give it a source of its own in regain.yaml.',
      },
    )
  }
}

/** The system identifier that the store's log belongs to; null if it has none yet. */
export async function logOwner(store: LogStore): Promise<string | null> {
  return (await store.readHistory(SYSTEM_NAME))?.toString('utf8').trim() ?? null
}

/**
 * The history of `timeline` from the server, stored durably: recovery across the fork needs it. Rejects with
 * `log-conflict` if the store knows another history for that number: then two servers were promoted apart.
 */
export async function storeHistory(
  connection: ReplicationConnection,
  store: LogStore,
  timeline: number,
): Promise<TimelineHistory> {
  if (timeline === 1) return rootHistory(1)
  let content = ''
  await connection.run(`TIMELINE_HISTORY ${timeline}`, {
    resultSet: (set) => {
      content = set.rows[0]?.[1] ?? ''
    },
  })
  const name = historyName(timeline)
  try {
    await store.putHistory(name, Buffer.from(content))
  } catch (error) {
    if (!isRegainError(error, 'log-conflict')) throw error
    throw new RegainError(
      'log-conflict',
      `The server's timeline ${timeline} began elsewhere than the one in the repository: two servers were promoted apart, or a restored copy writes to the original's repository. Nothing was stored.`,
      { cause: error },
    )
  }
  return parseHistory(timeline, content)
}
