import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres, startStandby } from '../../../../test/support/postgres.ts'
import type { LogMark } from '../log/log-clock.ts'
import { parseConnectionUrl } from '../protocol/connection-url.ts'
import { parseLsn } from '../protocol/lsn.ts'
import { watchStandbyClock } from './standby-clock.ts'

test('what a standby knows of its primary’s clock, by its receiver and, where that may not be read, by its log', async (t) => {
  const primary = await startPostgres(t, { major: 13 })
  await primary.query('create role plain login')
  const standby = await startStandby(t, primary)
  await primary.query('create table t ()')
  const [after] = await primary.query<{ lsn: string; at: Date }>(
    'select pg_current_wal_lsn()::text as lsn, clock_timestamp() as at',
  )
  const written = parseLsn(after?.lsn ?? '')

  const first = async (url: string): Promise<{ kind: string } & LogMark> => {
    const stop = new AbortController()
    const heard = Promise.withResolvers<{ kind: string } & LogMark>()
    const take = (kind: string, mark: LogMark) => {
      if (mark.end >= written) heard.resolve({ kind, ...mark })
    }
    const watching = watchStandbyClock(parseConnectionUrl(url), AbortSignal.any([stop.signal, t.signal]), {
      message: (end, clockMs) => take('message', { end, clockMs }),
      mark: (mark) => take('mark', mark),
    })
    const told = await heard.promise
    stop.abort()
    await watching
    return told
  }
  const receiver = await first(standby.url())
  assert.equal(receiver.kind, 'message')
  const log = await first(standby.url().replace('postgres@', 'plain@'))
  assert.equal(log.kind, 'mark')
  // The last transaction was committed before the clock was asked.
  assert.ok(log.clockMs <= (after?.at.getTime() ?? 0))
})
