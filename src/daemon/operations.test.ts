import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ServiceConfiguration } from '../config/configuration.ts'
import { rulesOf } from './operations.ts'

const SERVICE = {
  name: 'shop',
  destinations: ['hot'],
  sources: { files: { type: 'files' }, dump: { type: 'postgres-dump' } },
  limits: { window: null },
}

for (const [schedule, expected] of [
  [{ full: '0 2 * * *', incremental: '0 * * * *' }, ['files full', 'files incremental', 'dump full']],
  [{ incremental: '0 * * * *' }, ['files incremental', 'dump incremental']],
  [{ full: '0 2 * * *' }, ['files full', 'dump full']],
] as const)
  test(`dumps, which are always whole, with the schedule ${JSON.stringify(schedule)}`, () => {
    const service = { ...SERVICE, schedule: { ...schedule, prune: null, timezone: 'UTC' } }
    const rules = rulesOf(service as unknown as ServiceConfiguration)
    assert.deepEqual(
      rules.map(({ source, kind }) => `${source} ${kind}`),
      expected,
    )
  })
