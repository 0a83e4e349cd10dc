import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { cronProblem, jitterOf, planSchedule, type RunFact, type ScheduleRule, windowAt } from './schedule.ts'

const MINUTE = 60_000

function rule(kind: 'full' | 'incremental', cron: string, timeZone = 'UTC', jitterMs = 0): ScheduleRule {
  return { service: 'shop', source: 'db', destination: 'hot', kind, cron, timeZone, window: null, jitterMs }
}

function run(kind: 'full' | 'incremental', startedAt: string, outcome: RunFact['outcome'] = 'complete'): RunFact {
  const start = Date.parse(startedAt)
  const endedAt = outcome === 'running' ? null : start + 10 * MINUTE
  return { service: 'shop', source: 'db', destination: 'hot', kind, startedAt: start, endedAt, outcome }
}

/** One line per rule: what a person would be told. */
function decided(rules: ScheduleRule[], runs: RunFact[], now: string): string[] {
  const plan = planSchedule(rules, runs, Date.parse(now))
  return plan.decisions.map(({ rule: { kind }, state, reason }) => `${kind} ${state}: ${reason}`)
}

function wake(rules: ScheduleRule[], runs: RunFact[], now: string): string | null {
  const { wakeAt } = planSchedule(rules, runs, Date.parse(now))
  return wakeAt === null ? null : new Date(wakeAt).toISOString()
}

const NIGHTLY = rule('full', '0 2 * * *')
const SIX_HOURLY = rule('incremental', '0 */6 * * *')

const ORDINARY: [title: string, rules: ScheduleRule[], runs: RunFact[], now: string, expected: string[]][] = [
  [
    'no point yet: the first backup is due at once, as one full',
    [NIGHTLY, SIX_HOURLY],
    [],
    '2026-01-10T13:37:00Z',
    ['full due: first backup, there is no point yet', 'incremental covered: the full backup that is due does this too'],
  ],
  [
    'before the moment',
    [NIGHTLY],
    [run('full', '2026-01-09T02:00:05Z')],
    '2026-01-10T01:59:59.999Z',
    ['full later: next run 2026-01-10T02:00:00Z'],
  ],
  [
    'at the moment',
    [NIGHTLY],
    [run('full', '2026-01-09T02:00:05Z')],
    '2026-01-10T02:00:00Z',
    ['full due: scheduled for 2026-01-10T02:00:00Z'],
  ],
  [
    'done',
    [NIGHTLY],
    [run('full', '2026-01-10T02:00:00Z')],
    '2026-01-10T02:00:01Z',
    ['full later: next run 2026-01-11T02:00:00Z'],
  ],
  [
    'a partial run is a run: it is not repeated before its time',
    [NIGHTLY],
    [run('full', '2026-01-10T02:00:00Z', 'partial')],
    '2026-01-10T02:30:00Z',
    ['full later: next run 2026-01-11T02:00:00Z'],
  ],
  [
    'a run by hand after the moment serves it',
    [SIX_HOURLY],
    [run('full', '2026-01-10T06:00:30Z')],
    '2026-01-10T06:20:00Z',
    ['incremental later: next run 2026-01-10T12:00:00Z'],
  ],
  [
    'a run by hand before the moment does not',
    [SIX_HOURLY],
    [run('full', '2026-01-10T05:59:00Z')],
    '2026-01-10T06:20:00Z',
    ['incremental due: scheduled for 2026-01-10T06:00:00Z'],
  ],
  [
    'an incremental does not stand in for a full',
    [NIGHTLY, SIX_HOURLY],
    [run('full', '2026-01-09T02:00:00Z'), run('incremental', '2026-01-10T02:30:00Z')],
    '2026-01-10T03:00:00Z',
    ['full due: scheduled for 2026-01-10T02:00:00Z', 'incremental later: next run 2026-01-10T06:00:00Z'],
  ],
  [
    'both due: the full goes, the incremental is covered',
    [rule('incremental', '0 2 * * *'), NIGHTLY],
    [run('full', '2026-01-09T02:00:00Z')],
    '2026-01-10T02:00:00Z',
    ['incremental covered: the full backup that is due does this too', 'full due: scheduled for 2026-01-10T02:00:00Z'],
  ],
  [
    'never two at once',
    [SIX_HOURLY],
    [run('full', '2026-01-09T02:00:00Z'), run('full', '2026-01-10T05:50:00Z', 'running')],
    '2026-01-10T06:00:00Z',
    [
      'incremental held: scheduled for 2026-01-10T06:00:00Z, which also makes up for 4 missed before it, waiting: ' +
        'a run of this source is under way',
    ],
  ],
  [
    'downtime of three days: caught up once',
    [NIGHTLY],
    [run('full', '2026-01-06T02:00:00Z')],
    '2026-01-10T09:00:00Z',
    ['full due: scheduled for 2026-01-10T02:00:00Z, which also makes up for 3 missed before it'],
  ],
  [
    'downtime of a year at one run a minute is counted only so far',
    [rule('incremental', '* * * * *')],
    [run('full', '2025-01-06T02:00:00Z')],
    '2026-01-10T09:00:30Z',
    ['incremental due: scheduled for 2026-01-10T09:00:00Z, which also makes up for 100 or more missed before it'],
  ],
  [
    'after a failure: a minute later',
    [NIGHTLY],
    [run('full', '2026-01-09T02:00:00Z'), run('full', '2026-01-10T02:00:00Z', 'failed')],
    '2026-01-10T02:10:59Z',
    ['full later: attempt 2 2026-01-10T02:11:00Z, the last one failed'],
  ],
  [
    'after that minute',
    [NIGHTLY],
    [run('full', '2026-01-09T02:00:00Z'), run('full', '2026-01-10T02:00:00Z', 'failed')],
    '2026-01-10T02:11:00Z',
    ['full due: scheduled for 2026-01-10T02:00:00Z, attempt 2'],
  ],
  [
    'failures never wait longer than an hour',
    [NIGHTLY],
    [
      run('full', '2026-01-09T02:00:00Z'),
      ...['02:00', '03:00', '04:00', '05:00', '06:00', '07:00'].map((time) =>
        run('full', `2026-01-10T${time}:00Z`, 'interrupted'),
      ),
    ],
    '2026-01-10T07:20:00Z',
    ['full later: attempt 7 2026-01-10T08:10:00Z, the last one was interrupted'],
  ],
  [
    'a first backup that fails is retried with the same patience',
    [NIGHTLY],
    [run('full', '2026-01-09T13:00:00Z', 'failed')],
    '2026-01-09T13:10:30Z',
    ['full later: attempt 2 2026-01-09T13:11:00Z, the last one failed'],
  ],
  [
    'the next scheduled moment comes before the retry, and begins anew',
    [rule('incremental', '*/15 * * * *')],
    [
      run('full', '2026-01-09T02:00:00Z'),
      run('incremental', '2026-01-10T02:00:00Z', 'failed'),
      run('incremental', '2026-01-10T02:02:00Z', 'failed'),
    ],
    '2026-01-10T02:14:00Z',
    ['incremental later: attempt 3 2026-01-10T02:15:00Z, the last one failed'],
  ],
  [
    'a run dated by a clock that was a year ahead proves nothing',
    [NIGHTLY],
    [run('full', '2026-01-09T02:00:00Z'), run('full', '2027-01-10T02:00:00Z')],
    '2026-01-10T02:00:00Z',
    ['full due: scheduled for 2026-01-10T02:00:00Z'],
  ],
  [
    'each destination is owed its own points',
    [NIGHTLY, { ...NIGHTLY, destination: 'offsite' }],
    [
      run('full', '2026-01-10T02:00:00Z'),
      { ...run('full', '2026-01-09T02:00:00Z'), destination: 'offsite' },
      { ...run('full', '2026-01-10T02:10:00Z', 'failed'), destination: 'offsite' },
    ],
    '2026-01-10T02:30:00Z',
    ['full later: next run 2026-01-11T02:00:00Z', 'full due: scheduled for 2026-01-10T02:00:00Z, attempt 2'],
  ],
  [
    'a run to one destination holds the other back',
    [{ ...NIGHTLY, destination: 'offsite' }],
    [
      { ...run('full', '2026-01-09T02:00:00Z'), destination: 'offsite' },
      run('full', '2026-01-10T02:00:00Z', 'running'),
    ],
    '2026-01-10T02:30:00Z',
    ['full held: scheduled for 2026-01-10T02:00:00Z, waiting: a run of this source is under way'],
  ],
  [
    'runs of another source say nothing about this one',
    [NIGHTLY],
    [{ ...run('full', '2026-01-10T02:00:00Z'), source: 'uploads' }],
    '2026-01-10T02:30:00Z',
    ['full due: first backup, there is no point yet'],
  ],
]

for (const [title, rules, runs, now, expected] of ORDINARY) {
  test(`schedule: ${title}`, () => assert.deepEqual(decided(rules, runs, now), expected))
}

/** Cron moments that follow one another: each run begins the moment it is due, and the next is looked up. */
const CALENDAR: [title: string, cron: string, timeZone: string, from: string, moments: string[]][] = [
  [
    'spring skips 02:30 in Berlin: right after the gap, at 03:00 summer time',
    '30 2 * * *',
    'Europe/Berlin',
    '2025-03-29T12:00:00Z',
    ['2025-03-30T01:00:00Z', '2025-03-31T00:30:00Z', '2025-04-01T00:30:00Z'],
  ],
  [
    'a list of fixed times loses none in spring either',
    '30 2,14 * * *',
    'Europe/Berlin',
    '2025-03-29T15:00:00Z',
    ['2025-03-30T01:00:00Z', '2025-03-30T12:30:00Z', '2025-03-31T00:30:00Z'],
  ],
  [
    'autumn repeats 02:30 in Berlin: once',
    '30 2 * * *',
    'Europe/Berlin',
    '2025-10-25T12:00:00Z',
    ['2025-10-26T00:30:00Z', '2025-10-27T01:30:00Z', '2025-10-28T01:30:00Z'],
  ],
  [
    'every half hour goes on by the clock through autumn',
    '*/30 * * * *',
    'Europe/Berlin',
    '2025-10-26T00:20:00Z',
    ['2025-10-26T00:30:00Z', '2025-10-26T01:00:00Z', '2025-10-26T01:30:00Z', '2025-10-26T02:00:00Z'],
  ],
  [
    'every half hour goes on by the clock through spring',
    '*/30 * * * *',
    'Europe/Berlin',
    '2025-03-30T00:20:00Z',
    ['2025-03-30T00:30:00Z', '2025-03-30T01:00:00Z', '2025-03-30T01:30:00Z'],
  ],
  [
    'New York, spring: 02:00 does not exist on 8 March 2026',
    '0 2 * * *',
    'America/New_York',
    '2026-03-07T12:00:00Z',
    ['2026-03-08T07:00:00Z', '2026-03-09T06:00:00Z'],
  ],
  [
    'half an hour of summer time on Lord Howe Island',
    '15 2 * * *',
    'Australia/Lord_Howe',
    '2025-10-04T00:00:00Z',
    ['2025-10-04T15:30:00Z', '2025-10-05T15:15:00Z'],
  ],
  [
    '29 February comes every fourth year',
    '0 3 29 2 *',
    'UTC',
    '2025-03-01T00:00:00Z',
    ['2028-02-29T03:00:00Z', '2032-02-29T03:00:00Z'],
  ],
  [
    'the 31st skips short months',
    '0 4 31 * *',
    'UTC',
    '2026-01-31T05:00:00Z',
    ['2026-03-31T04:00:00Z', '2026-05-31T04:00:00Z'],
  ],
  ['Sundays', '0 4 * * 0', 'UTC', '2026-01-01T00:00:00Z', ['2026-01-04T04:00:00Z', '2026-01-11T04:00:00Z']],
]

for (const [title, cron, timeZone, from, moments] of CALENDAR) {
  test(`calendar: ${title}`, () => {
    const rules = [rule('full', cron, timeZone)]
    const runs = [run('full', from)]
    let now = from
    for (const moment of moments) {
      const next = wake(rules, runs, now)
      assert.equal(next, new Date(moment).toISOString())
      assert.equal(planSchedule(rules, runs, Date.parse(moment) - 1).decisions[0]?.state, 'later')
      assert.equal(planSchedule(rules, runs, Date.parse(moment)).decisions[0]?.state, 'due')
      runs.push(run('full', moment))
      assert.equal(planSchedule(rules, runs, Date.parse(moment)).decisions[0]?.state, 'later')
      now = moment
    }
  })
}

test('a schedule of the past is owed over a daylight saving change exactly once', () => {
  const rules = [rule('full', '30 2 * * *', 'Europe/Berlin')]
  const before = [run('full', '2025-03-29T01:30:00Z')]
  assert.deepEqual(decided(rules, before, '2025-03-30T09:00:00Z'), ['full due: scheduled for 2025-03-30T01:00:00Z'])
  const caughtUp = [...before, run('full', '2025-03-30T09:00:00Z')]
  assert.deepEqual(decided(rules, caughtUp, '2025-03-30T09:00:01Z'), ['full later: next run 2025-03-31T00:30:00Z'])
})

test('jitter is fixed by the names, inside its bounds, and applied to due and wake-up alike', () => {
  const jittered = rule('full', '0 2 * * *', 'UTC', 60_000)
  const jitter = jitterOf(jittered)
  assert.equal(jitter, jitterOf({ ...jittered }))
  const moment = Date.parse('2026-01-10T02:00:00Z')
  const runs = [run('full', '2026-01-09T02:00:00Z')]
  assert.equal(planSchedule([jittered], runs, moment + jitter - 1).decisions[0]?.state, 'later')
  assert.equal(planSchedule([jittered], runs, moment + jitter - 1).wakeAt, moment + jitter)
  assert.equal(planSchedule([jittered], runs, moment + jitter).decisions[0]?.state, 'due')

  const jitters = Array.from({ length: 200 }, (_, i) => jitterOf({ ...jittered, source: `db${i}` }))
  assert.ok(jitters.every((ms) => ms >= 0 && ms <= 60_000))
  assert.ok(new Set(jitters.map((ms) => Math.floor(ms / 10_000))).size >= 6, 'spread over the whole minute')
  assert.equal(jitterOf(rule('full', '0 2 * * *')), 0)
})

test('mistakes in a rule are told in words', () => {
  assert.equal(cronProblem('0 2 * * *', 'Europe/Berlin'), null)
  assert.equal(cronProblem('0 3 29 2 *', 'UTC'), null)
  assert.match(cronProblem('0 2 * *', 'UTC') ?? '', /five fields/)
  assert.match(cronProblem('0 0 2 * * *', 'UTC') ?? '', /five fields/)
  assert.match(cronProblem('61 2 * * *', 'UTC') ?? '', /61/)
  assert.match(cronProblem('0 3 30 2 *', 'UTC') ?? '', /never/)
  assert.match(cronProblem('0 2 * * *', 'Europe/Atlantis') ?? '', /Atlantis/)
})

const arbitraryCron = fc.constantFrom(
  '0 2 * * *',
  '0 */6 * * *',
  '*/7 * * * *',
  '30 2 * * 0',
  '0 0 1 * *',
  '15 2,3 * * *',
)
const arbitraryZone = fc.constantFrom('UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kolkata')
const START = Date.parse('2025-01-01T00:00:00Z')
const arbitraryMoment = fc.integer({ min: START, max: START + 400 * 24 * 3600_000 })

test('property: the wake-up is in the future, and one run at a due moment settles the rule until then', () => {
  fc.assert(
    fc.property(
      arbitraryCron,
      arbitraryZone,
      arbitraryMoment,
      arbitraryMoment,
      fc.constantFrom(0, 90_000),
      (cron, timeZone, last, now, jitterMs) => {
        const rules = [rule('full', cron, timeZone, jitterMs)]
        const runs = [{ ...run('full', '2025-01-01T00:00:00Z'), startedAt: last, endedAt: last }]
        const plan = planSchedule(rules, runs, now)
        assert.ok(plan.wakeAt !== null && plan.wakeAt > now)
        const settled = [...runs, { ...run('full', '2025-01-01T00:00:00Z'), startedAt: now, endedAt: now }]
        const after = planSchedule(rules, settled, now)
        assert.equal(after.decisions[0]?.state, 'later')
        assert.equal(after.wakeAt, plan.wakeAt)
        assert.equal(planSchedule(rules, settled, (after.wakeAt ?? 0) - 1).decisions[0]?.state, 'later')
        // A run between a cron moment and its jittered start has served that moment already, as has one dated after now.
        if (jitterMs === 0 && last <= now)
          assert.equal(planSchedule(rules, settled, after.wakeAt ?? 0).decisions[0]?.state, 'due')
      },
    ),
  )
})

const NIGHT = { startMinute: 22 * 60, endMinute: 6 * 60 }
const OFF_PEAK: ScheduleRule = { ...rule('incremental', '0 * * * *'), window: NIGHT }

test('a run that is due waits for its window, and the plan wakes when it opens', () => {
  const runs = [run('incremental', '2026-01-10T05:00:00Z')]
  assert.deepEqual(decided([OFF_PEAK], runs, '2026-01-10T12:00:00Z'), [
    'incremental held: scheduled for 2026-01-10T12:00:00Z, which also makes up for 6 missed before it, waiting for the window that opens 2026-01-10T22:00:00Z',
  ])
  assert.equal(wake([OFF_PEAK], runs, '2026-01-10T21:30:00Z'), '2026-01-10T22:00:00.000Z')
  assert.match(decided([OFF_PEAK], runs, '2026-01-10T22:00:00Z')[0] ?? '', /^incremental due: /)
})

test('a run that is due knows when its window closes', () => {
  const { decisions } = planSchedule([OFF_PEAK], [], Date.parse('2026-01-10T23:30:00Z'))
  assert.deepEqual(
    decisions.map(({ state, windowChangesAt }) => [state, new Date(windowChangesAt ?? 0).toISOString()]),
    [['due', '2026-01-11T06:00:00.000Z']],
  )
})

test('a window is open from its start until its end, over midnight and in its own zone', () => {
  const open = (time: string, window = NIGHT, zone = 'UTC') => windowAt(window, zone, Date.parse(time)).isOpen
  assert.deepEqual(
    ['21:59:59', '22:00:00', '23:59:59', '00:00:00', '05:59:59', '06:00:00'].map((time) => open(`2026-01-10T${time}Z`)),
    [false, true, true, true, true, false],
  )
  const day = { startMinute: 9 * 60, endMinute: 17 * 60 + 30 }
  assert.deepEqual(
    ['08:59', '09:00', '17:29', '17:30', '23:00'].map((time) => open(`2026-01-10T${time}:00Z`, day)),
    [false, true, true, false, false],
  )
  assert.equal(open('2026-07-10T07:30:00Z', day, 'Europe/Berlin'), true)
  assert.equal(open('2026-01-10T07:30:00Z', day, 'Europe/Berlin'), false)
})

test('the night in which clocks change has one opening and one end', () => {
  for (const night of ['2026-03-28', '2026-10-24']) {
    let changes = 0
    let before: boolean | null = null
    const start = Date.parse(`${night}T12:00:00Z`)
    for (let at = start; at <= start + 24 * 60 * MINUTE; at += 10 * MINUTE) {
      const { isOpen, changesAt } = windowAt({ startMinute: 60, endMinute: 150 }, 'Europe/Berlin', at)
      assert.ok(changesAt > at)
      if (before !== null && before !== isOpen) changes++
      before = isOpen
    }
    assert.equal(changes, 2, night)
  }
})
