import assert from 'node:assert/strict'
import { test } from 'node:test'
import { predictRestore, type RestoreFact } from './restore-time.ts'

const MB = 1_000_000
const fact = (megabytes: number, seconds: number, isOfSource = true): RestoreFact => ({
  workBytes: megabytes * MB,
  durationMs: seconds * 1000,
  isOfSource,
})

const TABLE: [string, RestoreFact[], number, RegExp][] = [
  ['nothing was measured', [], 10, /^assuming 100 MB\/s/],
  ['what was measured is too small to tell', [fact(1, 5)], 10, /^assuming/],
  ['the last of the source', [fact(1000, 5)], 5, /^at 200 MB\/s, as the last restore of this source/],
  ['the median, so that one slow night does not count', [fact(1000, 5), fact(1000, 100), fact(1000, 4)], 5, /last 3/],
  ['the last five only', [...Array<RestoreFact>(5).fill(fact(1000, 5)), fact(1000, 1)], 5, /last 5 restores/],
  ['of another source, if none of this', [fact(1000, 20, false)], 20, /of other sources/],
  ['of this source rather than of others', [fact(1000, 20, false), fact(1000, 5)], 5, /of this source/],
]

for (const [name, facts, seconds, basis] of TABLE) {
  test(`the time of a restore of 1000 MB: ${name}`, () => {
    const prediction = predictRestore(1000 * MB, facts)
    assert.equal(Math.round(prediction.durationMs / 1000), seconds)
    assert.match(prediction.basis, basis)
  })
}
