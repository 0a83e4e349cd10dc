import type { FollowerRow } from '../catalog/catalog.ts'
import { describeError } from '../catalog/record.ts'
import { isRegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import type { FollowerOptions, FollowerStatus } from '../sources/contract.ts'
import { restartDelayMs } from './delays.ts'
import { nameOf, type SourceName } from './work.ts'

export interface SupervisorOptions {
  ambient: Ambient
  signal: AbortSignal
  /** Makes the follower's standing known to other processes; must not throw. */
  save(row: FollowerRow): void
  /** Called once for each break in the log after which only a new point helps. */
  needsPoint(reason: string): void
  /** As `delay` of delays.ts. */
  delay(ms: number, signal: AbortSignal): Promise<void>
}

/** A run that streamed so long has proven itself: its end is a new trouble, not more of the old one. */
const PROVEN_MS = 30_000

/**
 * Keeps one follower running until the signal fires: a state machine of connecting -> streaming -> waiting -> connecting,
 * and stopped from anywhere. Failures are logged and known by `save`; they never end it. Resolves when the follower has
 * ended cleanly.
 */
export async function superviseFollower(
  name: SourceName,
  follow: (options: FollowerOptions) => Promise<void>,
  options: SupervisorOptions,
): Promise<void> {
  const { ambient, signal } = options
  const fields = { source: nameOf(name) }
  let failures = 0
  let lastNeed: string | undefined
  let row: FollowerRow = {
    ...name,
    state: 'connecting',
    durable: null,
    server: null,
    lagBytes: null,
    durableUntil: null,
    restarts: 0,
    error: null,
    retryAt: null,
    updatedAt: ambient.now(),
  }
  const change = (changes: Partial<FollowerRow>) => {
    row = { ...row, ...changes, updatedAt: ambient.now() }
    options.save(row)
  }

  while (!signal.aborted) {
    change({ state: 'connecting', retryAt: null })
    let streamingSince: number | null = null
    const onStatus = ({ durable, server, lagBytes, durableUntil, needsPoint }: FollowerStatus) => {
      if (streamingSince === null) {
        streamingSince = ambient.now()
        ambient.log('info', 'The log is being followed.', { ...fields, durable, durableUntil })
      }
      if (needsPoint !== undefined && needsPoint !== lastNeed) {
        ambient.log('warning', `A new point is needed: ${needsPoint}`, fields)
        options.needsPoint(needsPoint)
      }
      lastNeed = needsPoint
      change({ state: 'streaming', durable, server, lagBytes, durableUntil, error: null })
    }

    const error = await runOnce(name, follow, options, onStatus)
    if (signal.aborted) {
      if (error !== null) ambient.log('warning', `The follower did not end cleanly: ${error.message}`, fields)
      break
    }
    const problem = error ?? { code: 'source-unavailable', message: 'The server ended the stream.' }
    const isProven = streamingSince !== null && ambient.now() - streamingSince >= PROVEN_MS
    failures = isProven ? 1 : failures + 1
    const delayMs = restartDelayMs(failures, ambient.randomBytes(4).readUInt32LE() / 2 ** 32)
    ambient.log('error', `The log is not being followed: ${problem.message}`, {
      ...fields,
      code: problem.code,
      retryMs: delayMs,
    })
    change({ state: 'waiting', error: problem, retryAt: ambient.now() + delayMs, restarts: row.restarts + 1 })
    await options.delay(delayMs, signal)
  }
  change({ state: 'stopped', retryAt: null })
  ambient.log('info', 'The follower has stopped.', { ...fields, durable: row.durable, durableUntil: row.durableUntil })
}

/** Null when the follower returned, else what it failed with. */
async function runOnce(
  name: SourceName,
  follow: (options: FollowerOptions) => Promise<void>,
  { ambient, signal }: SupervisorOptions,
  status: (status: FollowerStatus) => void,
): Promise<{ code: string; message: string } | null> {
  try {
    const warn = (message: string) => ambient.log('warning', message, { source: nameOf(name) })
    await follow({ signal, warn, status })
    return null
  } catch (error) {
    // Being interrupted is how a stop is answered; anywhere else it is a failure like others.
    if (signal.aborted && isRegainError(error, 'interrupted')) return null
    return describeError(error)
  }
}
