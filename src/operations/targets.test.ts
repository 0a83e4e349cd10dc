import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Configuration } from '../config/configuration.ts'
import { selectService, selectServices } from './targets.ts'

const config = {
  path: 'regain.yaml',
  services: { shop: { name: 'shop', sources: { db: { name: 'db' }, files: { name: 'files' } }, destinations: [] } },
} as unknown as Configuration

test('what is done to a whole service is not done for one of its sources', () => {
  assert.equal(selectService(config, 'shop').name, 'shop')
  assert.throws(() => selectService(config, 'shop/files'), { code: 'usage', message: /one of its sources/ })
  assert.throws(() => selectService(config, 'shop/other'), { code: 'usage', message: /no source/ })
  assert.deepEqual(
    selectServices(config, undefined).map(({ name }) => name),
    ['shop'],
  )
  assert.throws(() => selectServices(config, 'shop/db'), { code: 'usage', message: /one of its sources/ })
})
