import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { decideRetention, type PointFact, type RetentionRules } from './retention.ts'

/**
 * Tables in test/golden/retention: comments (#), `rules` and `now`, then a line for each point: what is known of it, and
 * behind the bar what is decided. The test writes each table again from its left side and compares.
 */
const TABLES = join(import.meta.dirname, '../../test/golden/retention')

for (const path of globSync('*.txt', { cwd: TABLES })) {
  test(`table ${basename(path, '.txt')}`, () => {
    const table = readFileSync(join(TABLES, path), 'utf8')
    assert.equal(rewrite(table), table)
  })
}

function rewrite(table: string): string {
  const lines = table.trimEnd().split('\n')
  const setting = (name: string) =>
    lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1) ?? assert.fail(`no ${name}`)
  const rules = { timeZone: 'UTC', ...(JSON.parse(setting('rules')) as object) } as RetentionRules
  const points = lines.flatMap((line) => pointOf(line) ?? [])
  const decisions = decideRetention(points, rules, Date.parse(setting('now')))
  let next = 0
  const written = lines.map((line) => {
    if (pointOf(line) === null) return line
    const { keep, reasons } = decisions[next++]!
    const left = line.split(' | ')[0]!.trimEnd()
    return `${left.padEnd(50)} | ${keep ? 'keep  ' : 'REMOVE'} | ${reasons.map(({ text }) => text).join('; ')}`
  })
  return `${written.join('\n')}\n`
}

/** '2026-05-01T02:00:00Z a1 partial label=x hold=y previous=z'; null for other lines. */
function pointOf(line: string): PointFact | null {
  const match = /^(\d{4}-\d\d-\d\dT\S+|undated) +(\S+)([^|]*)/.exec(line)
  if (match === null) return null
  const [, time = '', id = '', rest = ''] = match
  const value = (name: string) => new RegExp(`${name}=(\\S*)`).exec(rest)?.[1]
  const fact: PointFact = { id, committedAt: Date.parse(time), complete: !rest.includes('partial') }
  for (const name of ['label', 'hold', 'previous'] as const) {
    const given = value(name)
    if (given !== undefined) fact[name] = given
  }
  return fact
}

const DAY_MS = 86_400_000
const BEGIN = Date.UTC(2024, 0, 1)

const anyRules = fc.record(
  {
    timeZone: fc.constantFrom('UTC', 'Europe/Berlin', 'America/St_Johns', 'Pacific/Apia'),
    last: fc.integer({ min: 1, max: 5 }),
    withinMs: fc.integer({ min: 1, max: 20 * DAY_MS }),
    daily: fc.integer({ min: 1, max: 10 }),
    weekly: fc.integer({ min: 1, max: 6 }),
    monthly: fc.integer({ min: 1, max: 6 }),
    yearly: fc.integer({ min: 1, max: 3 }),
    labels: fc.constant(['release-*']),
  },
  { requiredKeys: ['timeZone'] },
)

const anyPoints = fc
  .array(
    fc.record(
      {
        committedAt: fc.integer({ min: BEGIN, max: BEGIN + 800 * DAY_MS }),
        complete: fc.boolean(),
        label: fc.constantFrom('release-1', 'nightly'),
        hold: fc.constant('law'),
      },
      { requiredKeys: ['committedAt', 'complete'] },
    ),
    { maxLength: 60 },
  )
  .map((points) => points.map((point, i): PointFact => ({ ...point, id: String(i).padStart(4, '0') })))

/** The same with dates that a clock set back gave: each point follows the newest one that was there. */
const anyPointsOfBadClocks = anyPoints.map((points) => {
  let newest: PointFact | undefined
  return points.map(({ hold: _, label: __, ...point }) => {
    const linked: PointFact = newest === undefined ? point : { ...point, previous: newest.id }
    if (newest === undefined || point.committedAt > newest.committedAt) newest = linked
    return linked
  })
})

const anyNow = fc.integer({ min: BEGIN - 10 * DAY_MS, max: BEGIN + 900 * DAY_MS })
const LATER = BEGIN + 5000 * DAY_MS

const keptOf = (points: readonly PointFact[], rules: RetentionRules, now: number): Set<string> =>
  new Set(decideRetention(points, rules, now).flatMap(({ id, keep }) => (keep ? [id] : [])))
const holds = (predicate: (points: PointFact[], rules: RetentionRules, now: number) => void) => {
  fc.assert(fc.property(anyPoints, anyRules, anyNow, predicate), { numRuns: 400 })
}

test('every decision has a reason, and every point one decision, whatever their order', () => {
  holds((points, rules, now) => {
    const decisions = decideRetention(points, rules, now)
    assert.deepEqual(
      decisions.map(({ id }) => id),
      points.map(({ id }) => id),
    )
    for (const { reasons } of decisions) assert.ok(reasons.length > 0 && reasons.every(({ text }) => text !== ''))
    assert.deepEqual(keptOf(points.toReversed(), rules, now), keptOf(points, rules, now))
  })
})

test('deciding again about what was kept keeps all of it', () => {
  const again = (points: PointFact[], rules: RetentionRules, now: number) => {
    const kept = keptOf(points, rules, now)
    assert.deepEqual(
      keptOf(
        points.filter(({ id }) => kept.has(id)),
        rules,
        now,
      ),
      kept,
    )
  }
  holds(again)
  fc.assert(fc.property(anyPointsOfBadClocks, anyRules, anyNow, again), { numRuns: 400 })
})

test('the newest point and the newest complete one are kept', () => {
  holds((points, rules, now) => {
    const kept = keptOf(points, rules, now)
    const byDate = points.toSorted((a, b) => a.committedAt - b.committedAt || (a.id < b.id ? -1 : 1))
    const newest = byDate.at(-1)
    const complete = byDate.findLast((point) => point.complete)
    if (newest) assert.ok(kept.has(newest.id))
    if (complete) assert.ok(kept.has(complete.id))
  })
})

test('the newest points of a clock that was set back are kept until there is one dated right', () => {
  fc.assert(
    fc.property(anyPointsOfBadClocks, anyRules, (points, rules) => {
      const last = points.at(-1)
      if (last) assert.ok(keptOf(points, rules, LATER).has(last.id))
    }),
    { numRuns: 400 },
  )
})

test('a partial point takes no place of a complete one', () => {
  holds((points, rules) => {
    const whole = points.filter(({ complete }) => complete)
    const alone = keptOf(whole, { ...rules, withinMs: undefined }, LATER)
    // More days and weeks with points use up more of a rule's count; with one period to a point there is room for all.
    const room = { ...rules, withinMs: undefined, ...grow(rules, points.length) }
    const beside = keptOf(points, room, LATER)
    for (const id of alone) assert.ok(beside.has(id), id)
  })
})

const grow = (rules: RetentionRules, by: number): Partial<RetentionRules> =>
  Object.fromEntries(
    (['daily', 'weekly', 'monthly', 'yearly'] as const).flatMap((name) =>
      rules[name] === undefined ? [] : [[name, rules[name] + by]],
    ),
  )

test('a wider rule, a further rule, a hold remove nothing', () => {
  fc.assert(
    fc.property(anyPoints, anyRules, anyRules, anyNow, fc.nat(60), (points, rules, more, now, held) => {
      const kept = keptOf(points, rules, now)
      const both = { ...more, ...rules, labels: ['*'] }
      for (const id of kept) assert.ok(keptOf(points, both, now).has(id))
      const wider = {
        ...rules,
        ...grow(rules, 1),
        last: (rules.last ?? 0) + 1,
        withinMs: (rules.withinMs ?? 0) + DAY_MS,
      }
      for (const id of kept) assert.ok(keptOf(points, wider, now).has(id))
      const withHold = points.map((point, i) => (i === held ? { ...point, hold: '' } : point))
      for (const id of kept) assert.ok(keptOf(withHold, rules, now).has(id))
    }),
    { numRuns: 300 },
  )
})

test('no moment removes more than another later than all points', () => {
  holds((points, rules, now) => {
    const kept = keptOf(points, rules, now)
    for (const id of keptOf(points, rules, LATER)) assert.ok(kept.has(id))
  })
})

test('a rule keeps no more than it says: without holds, labels and clocks, the sum of all counts and the two newest', () => {
  holds((points, rules) => {
    const plain = points.map(({ id, committedAt, complete }) => ({ id, committedAt, complete }))
    const { last = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0 } = rules
    const kept = keptOf(plain, { ...rules, withinMs: undefined }, LATER)
    assert.ok(kept.size <= 2 * last + daily + weekly + monthly + yearly + 2)
  })
})

test('keep everything keeps everything', () => {
  holds((points, rules, now) => {
    assert.equal(keptOf(points, { ...rules, all: true }, now).size, points.length)
  })
})
