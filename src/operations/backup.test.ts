import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FilesConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { limitsOf } from './backup.ts'

test('a backup that something stands still for does not give way, and keeps to its other limits', () => {
  const limits = { cpuShare: 0.5, busyShare: 0.02, window: null }
  const service = { limits } as ServiceConfiguration
  const files: FilesConfiguration = { name: 'a', type: 'files', paths: ['/srv'], exclude: [], place: 'regain.yaml:1:1' }
  assert.deepEqual(limitsOf(service, files), limits)
  assert.deepEqual(limitsOf(service, { ...files, before: 'freeze' }), { cpuShare: 0.5, window: null })
})

test('only physical backups of PostgreSQL give way without being told so', () => {
  const service = (limits: object) => ({ limits: { window: null, ...limits } }) as ServiceConfiguration
  const share = (type: string, limits: object) => limitsOf(service(limits), { type } as SourceConfiguration).busyShare
  assert.equal(share('postgres', {}), 0.01)
  assert.equal(share('postgres', { busyShare: 1 }), undefined)
  for (const type of ['files', 'postgres-dump', 'postgres-tenants']) {
    assert.equal(share(type, {}), undefined)
    assert.equal(share(type, { busyShare: 0.3 }), 0.3)
  }
})
