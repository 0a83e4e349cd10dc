import assert from 'node:assert/strict'
import { test } from 'node:test'
import { judgeKeptLog, type KeptLogFacts, type KeptLogLimit } from './kept-log.ts'

const GB = 1e9
const facts = (keptGb: number, more: Partial<KeptLogFacts> = {}): KeptLogFacts => ({
  keptBytes: keptGb * GB,
  ownLimitBytes: null,
  disk: null,
  dataBytes: null,
  ...more,
})
const disk = (freeGb: number, totalGb: number) => ({ disk: { freeBytes: freeGb * GB, totalBytes: totalGb * GB } })

for (const [what, known, limit, state] of [
  ['little is kept', facts(0.1), 'auto', 'fine'],
  // A disk that can be seen: a tenth of it, at most 10 GB, stays free, as far as letting go can see to that.
  ['much, and much room', facts(500, disk(1000, 4000)), 'auto', 'fine'],
  ['room is getting short', facts(12, disk(18, 400)), 'auto', 'near'],
  ['room is short, and what is kept is why', facts(12, disk(9, 400)), 'auto', 'give-up'],
  ['a small disk', facts(1.5, disk(1.4, 20)), 'auto', 'give-up'],
  ['room is short for another reason', facts(0.2, disk(9, 400)), 'auto', 'fine'],
  // One that cannot be seen: half the data, at least 4 GB.
  ['remote, a small cluster', facts(3.9, { dataBytes: GB }), 'auto', 'near'],
  ['remote, a small cluster, more', facts(4, { dataBytes: GB }), 'auto', 'give-up'],
  ['remote, a large cluster', facts(100, { dataBytes: 1000 * GB }), 'auto', 'fine'],
  ['remote, a large cluster, half way', facts(300, { dataBytes: 1000 * GB }), 'auto', 'near'],
  ['remote, a large cluster, more', facts(500, { dataBytes: 1000 * GB }), 'auto', 'give-up'],
  // The server's own limit is its administrator's word.
  ['the server gives up by itself', facts(80, { ownLimitBytes: 50 * GB, ...disk(1, 400) }), 'auto', 'near'],
  ['the server has room', facts(20, { ownLimitBytes: 50 * GB }), 'auto', 'fine'],
  ['a limit of ours', facts(19.9), 20 * GB, 'near'],
  ['a limit of ours is reached', facts(20, disk(1000, 4000)), 20 * GB, 'give-up'],
  ['a limit of ours below the server’s', facts(20, { ownLimitBytes: 50 * GB }), 20 * GB, 'give-up'],
  ['never, and told all the same', facts(12, disk(1, 400)), 'never', 'near'],
  ['never', facts(1), 'never', 'fine'],
] as const satisfies readonly (readonly [string, KeptLogFacts, KeptLogLimit, string])[]) {
  test(`log that is kept: ${what}`, () => {
    const verdict = judgeKeptLog(known, limit)
    assert.equal(verdict.state, state, verdict.reason)
    assert.match(verdict.reason, /kept/)
  })
}
