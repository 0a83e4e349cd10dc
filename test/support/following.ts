import type { FollowerOptions, FollowerStatus } from '../../src/sources/contract.ts'
import { parseLsn } from '../../src/sources/postgres/protocol/lsn.ts'
import type { TestPostgres, TestScope } from './postgres.ts'

/** A log that is followed until its test ends. Whoever waits for it hears at once if it ended by itself. */
export interface Following {
  warnings: string[]
  status(): FollowerStatus
  /** Settles with the run. */
  ended: Promise<void>
  /** Resolves when the log is durable up to there. */
  durable(lsn: string): Promise<void>
  /** Resolves when what the server has written by now is durable. */
  caughtUp(): Promise<void>
  /** Resolves when the log is known to be complete up to this moment. */
  until(timeMs: number): Promise<void>
  stop(): Promise<void>
}

/** `postgres` tells how far it should be. */
export function follow(
  t: TestScope,
  postgres: TestPostgres,
  run: (options: FollowerOptions) => Promise<void>,
  warnings: string[] = [],
): Following {
  const stop = new AbortController()
  let latest: FollowerStatus = { durable: '0/0', server: '0/0', lagBytes: 0, durableUntil: null }
  let changed = Promise.withResolvers<void>()
  const ended = run({
    signal: AbortSignal.any([stop.signal, t.signal]),
    warn: (message) => void warnings.push(message),
    status: (status) => {
      latest = status
      changed.resolve()
      changed = Promise.withResolvers()
    },
  })
  const tooEarly = ended.then(() => Promise.reject(new Error('the follower ended by itself')))
  // Nobody may wait for it when it fails; the test that does, or that looks at `ended`, hears of it.
  tooEarly.catch(() => undefined)
  const waitFor = async (isReached: () => boolean) => {
    while (!isReached()) await Promise.race([changed.promise, tooEarly])
  }
  const durable = (lsn: string) => waitFor(() => parseLsn(latest.durable) >= parseLsn(lsn))
  t.after(async () => {
    stop.abort()
    // What it ended with was the test's to judge.
    await ended.catch(() => undefined)
  })
  return {
    warnings,
    status: () => latest,
    ended,
    durable,
    async caughtUp() {
      const [row] = await postgres.query<{ lsn: string }>(
        'select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end)::text as lsn',
      )
      await durable(row?.lsn ?? '')
    },
    until: (timeMs) => waitFor(() => latest.durableUntil !== null && Date.parse(latest.durableUntil) >= timeMs),
    async stop() {
      stop.abort()
      await ended
    },
  }
}
