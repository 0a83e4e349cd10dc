import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatDuration, parseDuration } from './duration.ts'

test('durations of every unit, and several together', () => {
  const cases: [string, number][] = [
    ['0s', 0],
    ['250ms', 250],
    ['30s', 30_000],
    ['15m', 900_000],
    ['2h', 7_200_000],
    ['90d', 7_776_000_000],
    ['2w', 1_209_600_000],
    ['1h30m', 5_400_000],
  ]
  for (const [text, ms] of cases) assert.equal(parseDuration(text), ms, text)
})

test('what is not a duration is null, never a guess', () => {
  for (const text of ['', '15', 'm', '1.5h', '-2h', '2 h', '2H', '1y', '9999999999999999999d', '5m ']) {
    assert.equal(parseDuration(text), null, JSON.stringify(text))
  }
})

test('a sum of parts is the sum of their durations', () => {
  const part = fc.tuple(fc.nat(10_000), fc.constantFrom('ms', 's', 'm', 'h', 'd', 'w'))
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 5 }), (parts) => {
      const texts = parts.map(([count, unit]) => `${count}${unit}`)
      const sum = texts.reduce((total, text) => total + (parseDuration(text) ?? Number.NaN), 0)
      assert.equal(parseDuration(texts.join('')), sum)
    }),
  )
})

test('for people: the two largest parts', () => {
  const cases: [number, string][] = [
    [0, '0 ms'],
    [999, '999 ms'],
    [3210, '3.2 s'],
    [59_949, '59.9 s'],
    [59_999, '1 min'],
    [90_000, '1 min 30 s'],
    [3_600_000, '1 h'],
    [3_905_000, '1 h 5 min'],
    [90_000_000, '1 d 1 h'],
    [86_460_000, '1 d'],
  ]
  for (const [ms, text] of cases) assert.equal(formatDuration(ms), text)
})
