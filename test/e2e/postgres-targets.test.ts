import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RestoreMoment } from '../../src/sources/contract.ts'
import { endOf, findEvent } from '../../src/sources/postgres/log/locate.ts'
import { formatLsn } from '../../src/sources/postgres/protocol/lsn.ts'
import { timedWindows } from '../../src/sources/postgres/recovery/recovery-log.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { protect, readRows } from '../support/postgres-protection.ts'

/** One transaction a row, each with its number and the time that its commit bears. */
async function write(postgres: TestPostgres, n: number): Promise<{ xid: string; time: string }> {
  await postgres.query(`insert into events values (${n})`)
  return committed(postgres, n)
}

async function committed(postgres: TestPostgres, n: number): Promise<{ xid: string; time: string }> {
  const [row] = await postgres.query<{ xid: string; time: string }>(
    `select xmin::text as xid,
            to_char(pg_xact_commit_timestamp(xmin) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time
     from events where n = ${n}`,
  )
  return { xid: row?.xid ?? '', time: row?.time ?? '' }
}

test('each kind of moment, with it or right before it, on each timeline, is exactly that', async (t) => {
  const original = await startPostgres(t, {
    major: 16,
    walSegmentMegabytes: 1,
    settings: { track_commit_timestamp: 'on', max_prepared_transactions: '5' },
  })
  const protection = await protect(t)
  await original.query('create table events (n int)')
  await protection.takePoint(original)
  const following = protection.follow(original)
  const one = await write(original, 1)
  const two = await write(original, 2)
  await following.caughtUp()
  // A copy that ends with the second row goes its own way; the original goes on.
  const { postgres: copy } = await protection.recover(original, { kind: 'xid', xid: two.xid })
  const three = await write(original, 3)
  const client = await original.connect()
  await client.query('begin')
  await client.query('insert into events values (4)')
  await client.query(`prepare transaction 'four'`)
  await write(original, 5)
  await client.query(`commit prepared 'four'`)
  const four = await committed(original, 4)
  await client.query('begin')
  await client.query('insert into events values (6)')
  await client.query('savepoint inner_one')
  await client.query('insert into events values (7)')
  await client.query('commit')
  const seven = await committed(original, 7)
  await original.query(`select pg_create_restore_point('mark')`)
  const eight = await write(original, 8)
  await following.caughtUp()
  await following.stop()
  await original.stop()
  const again = protection.follow(copy)
  const other = await write(copy, 103)
  await copy.query(`select pg_create_restore_point('mark')`)
  await write(copy, 104)
  await again.caughtUp()
  await again.stop()
  await copy.query('checkpoint')
  assert.equal(other.xid, three.xid, 'both ways gave the same number')

  const points = await protection.repository.points()
  const log = protection.repository.log('db')
  const { windows } = await timedWindows(points, log, true)
  const beginOf = async (timeline: number, { xid }: { xid: string }): Promise<string> => {
    const window = windows.find((candidate) => candidate.timeline === timeline)
    const event = window && (await findEvent(window, log, endOf(Number(xid)), t.signal))
    return formatLsn(event?.lsn ?? 0n)
  }
  const commitOfThree = await beginOf(1, three)

  const recover = async (at: RestoreMoment): Promise<number[]> => {
    const recovered = await protection.recover(original, at)
    const rows = await readRows(recovered.postgres)
    return rows
  }
  const exclusive = true as const
  const table: [RestoreMoment, number[]][] = [
    [{ kind: 'time', time: two.time }, [1, 2]],
    [{ kind: 'time', time: two.time, exclusive }, [1]],
    [{ kind: 'time', time: eight.time, timeline: 1, exclusive }, [1, 2, 3, 4, 5, 6, 7]],
    [{ kind: 'xid', xid: three.xid }, [1, 2, 103]],
    [{ kind: 'xid', xid: three.xid, timeline: 1 }, [1, 2, 3]],
    [{ kind: 'xid', xid: three.xid, timeline: 1, exclusive }, [1, 2]],
    // Prepared: its own number, which the record's header does not have.
    [{ kind: 'xid', xid: four.xid, timeline: 1 }, [1, 2, 3, 4, 5]],
    [{ kind: 'xid', xid: four.xid, timeline: 1, exclusive }, [1, 2, 3, 5]],
    // A subtransaction ends with what it is part of.
    [{ kind: 'xid', xid: seven.xid, timeline: 1 }, [1, 2, 3, 4, 5, 6, 7]],
    [{ kind: 'lsn', lsn: commitOfThree, timeline: 1 }, [1, 2, 3]],
    [{ kind: 'lsn', lsn: commitOfThree, timeline: 1, exclusive }, [1, 2]],
    [{ kind: 'name', name: 'mark', timeline: 1 }, [1, 2, 3, 4, 5, 6, 7]],
    [{ kind: 'name', name: 'mark' }, [1, 2, 103]],
    [{ kind: 'latest', timeline: 'current' }, [1, 2, 3, 4, 5, 6, 7, 8]],
    [{ kind: 'latest' }, [1, 2, 103, 104]],
  ]
  for (const [at, expected] of table) assert.deepEqual(await recover(at), expected, JSON.stringify(at))

  // What could also be meant is said, and only then.
  const notes = async (at: RestoreMoment): Promise<string> => (await protection.plan(at)).notes.join('\n')
  for (const at of [
    { kind: 'xid', xid: three.xid },
    { kind: 'name', name: 'mark' },
    { kind: 'time', time: three.time },
    { kind: 'lsn', lsn: commitOfThree },
  ] as const)
    assert.match(await notes(at), /taken on timeline 2. Another is on timeline 1: .* --timeline 1/, JSON.stringify(at))
  for (const at of [
    { kind: 'xid', xid: two.xid },
    { kind: 'time', time: one.time },
    { kind: 'lsn', lsn: await beginOf(2, two) },
  ] as const)
    assert.equal(await notes(at), '', JSON.stringify(at))
  await assert.rejects(protection.plan({ kind: 'latest', timeline: 7 }), {
    code: 'moment-unreachable',
    hint: /1, 2/,
  })
})
