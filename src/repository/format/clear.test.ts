import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRegainError } from '../../errors.ts'
import { authenticateClear, decodeClear, encodeClear, type RepositoryRecord } from './clear.ts'
import { deriveDomainKeys } from './domain-keys.ts'

const keys = deriveDomainKeys(Buffer.alloc(32, 1), Buffer.alloc(16, 2), 1)
const record: RepositoryRecord = {
  regain: 'repository',
  format: 1,
  id: '00'.repeat(16),
  service: 'shop',
  domain: '02'.repeat(16),
  epoch: 1,
  createdAt: '2026-01-02T03:04:05.678Z',
  companions: { 'FORMAT.txt': 'aa' },
}

function open(bytes: Buffer, name = 'repository.json'): RepositoryRecord {
  const decoded = decodeClear<RepositoryRecord>(bytes, name, 'repository')
  authenticateClear(keys, name, bytes, decoded)
  const { mac: _, ...rest } = decoded
  return rest
}

const refused = (error: unknown) =>
  isRegainError(error, 'repository-damaged') || isRegainError(error, 'repository-version')

test('a clear object comes back as it was', () => {
  assert.deepEqual(open(encodeClear(keys, 'repository.json', record)), record)
})

test('every flipped byte and every truncation is refused', () => {
  const bytes = encodeClear(keys, 'repository.json', record)
  for (let at = 0; at < bytes.length; at++) {
    for (const mask of [1, 0x20, 0x80]) {
      const changed = Buffer.from(bytes)
      changed[at] = changed[at]! ^ mask
      assert.throws(() => open(changed), refused, `byte ${at}`)
    }
    assert.throws(() => open(bytes.subarray(0, at)), refused, `${at} bytes`)
  }
  assert.throws(() => open(Buffer.concat([bytes, Buffer.from('\n')])), refused)
})

test('a clear object is bound to its name, its kind and its key', () => {
  const bytes = encodeClear(keys, 'repository.json', record)
  assert.throws(() => open(bytes, 'other.json'), refused)
  assert.throws(() => decodeClear(bytes, 'repository.json', 'key'), refused)
  const others = deriveDomainKeys(Buffer.alloc(32, 9), Buffer.alloc(16, 2), 1)
  assert.throws(() => open(encodeClear(others, 'repository.json', record)), refused)
})

test('another format is told apart from damage', () => {
  const bytes = Buffer.from(JSON.stringify({ ...record, format: 2, mac: '' }))
  assert.throws(
    () => open(bytes),
    (error) => isRegainError(error, 'repository-version'),
  )
})

test('what is not an object is refused', () => {
  for (const text of ['', 'null', '[]', '1', '"repository"', '{}', '\u0000'])
    assert.throws(() => open(Buffer.from(text)), refused, text)
})
