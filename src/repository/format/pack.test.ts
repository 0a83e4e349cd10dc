import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isRegainError } from '../../errors.ts'
import { decodeIndexSegment, encodeIndexSegment } from './index-segment.ts'
import {
  decodeDirectory,
  directorySize,
  encodeDirectory,
  GROUP_MAX_RAW_BYTES,
  type Group,
  METHOD_STORED,
  METHOD_ZSTD,
  PACK_MAX_CHUNKS,
  PACK_MAX_GROUPS,
} from './pack.ts'

const damaged = (error: unknown) => isRegainError(error, 'repository-damaged')

const chunkSizes = fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 8 })

/** Directories as a writer makes them: groups end to end, chunks end to end in each. */
const directories: fc.Arbitrary<Group[]> = fc
  .array(fc.record({ sizes: chunkSizes, stored: fc.integer({ min: 1, max: 900_000 }), zstd: fc.boolean() }), {
    maxLength: 12,
  })
  .map((groups) => {
    let offset = 0
    return groups.map(({ sizes, stored, zstd }, number) => {
      let at = 0
      const chunks = sizes.map((length, index) => {
        const chunk = { id: Buffer.alloc(32, number * 8 + index), offset: at, length }
        at += length
        return chunk
      })
      const group: Group = {
        offset,
        storedBytes: zstd ? stored : at,
        rawBytes: at,
        method: zstd ? METHOD_ZSTD : METHOD_STORED,
        chunks,
      }
      offset += group.storedBytes
      return group
    })
  })

const name = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes))

test('directories come back as they were, and tell their size', () => {
  fc.assert(
    fc.property(directories, fc.nat(100), (groups, more) => {
      const bytes = encodeDirectory(groups)
      assert.deepEqual(decodeDirectory(bytes, 'x'), groups)
      assert.equal(directorySize(Buffer.concat([bytes, Buffer.alloc(more, 0xff)]), 'x'), bytes.length)
    }),
  )
})

test('every truncated directory is refused', () => {
  fc.assert(
    fc.property(directories, (groups) => {
      const bytes = encodeDirectory(groups)
      for (let length = 0; length < bytes.length; length += 1 + (length % 7))
        assert.throws(() => decodeDirectory(bytes.subarray(0, length), 'x'), damaged)
    }),
    { numRuns: 30 },
  )
})

test('whatever bytes a directory is read from, it is refused or within its bounds', () => {
  fc.assert(
    fc.property(directories, fc.nat(), fc.integer({ min: 1, max: 255 }), (groups, at, mask) => {
      const bytes = encodeDirectory(groups)
      bytes[at % bytes.length] = bytes[at % bytes.length]! ^ mask
      let found: Group[]
      try {
        found = decodeDirectory(bytes, 'x')
      } catch (error) {
        assert.ok(damaged(error))
        return
      }
      let end = 0
      for (const group of found) {
        assert.equal(group.offset, end)
        end += group.storedBytes
        assert.ok(group.rawBytes <= GROUP_MAX_RAW_BYTES)
        for (const { offset, length } of group.chunks) assert.ok(offset + length <= group.rawBytes)
      }
    }),
    { numRuns: 1000 },
  )
})

test('counts that would cost memory are refused before anything is made of them', () => {
  for (const [groups, chunks] of [
    [PACK_MAX_GROUPS + 1, 0],
    [0, PACK_MAX_CHUNKS + 1],
    [0xffffffff, 0xffffffff],
  ] as const) {
    const bytes = Buffer.alloc(16)
    bytes.writeUInt32LE(groups, 0)
    bytes.writeUInt32LE(chunks, 4)
    assert.throws(() => decodeDirectory(bytes, 'x'), damaged)
  }
})

test('index segments come back as they were', () => {
  const directory = directories.map(encodeDirectory)
  const pack = fc.record({ name, sizeBytes: fc.nat(0xffffffff), directory }, { noNullPrototype: true })
  fc.assert(
    fc.property(fc.array(pack, { maxLength: 5 }), (packs) => {
      assert.deepEqual(decodeIndexSegment(encodeIndexSegment(packs), 'x'), packs)
    }),
  )
})

test('index segments cut within a record are refused', () => {
  const directory = encodeDirectory([])
  const one = { name: Buffer.alloc(32, 1), sizeBytes: 5, directory }
  const bytes = encodeIndexSegment([one, one])
  const record = bytes.length / 2
  for (let length = 1; length < bytes.length; length++) {
    if (length === record) continue
    assert.throws(() => decodeIndexSegment(bytes.subarray(0, length), 'x'), damaged)
  }
  assert.deepEqual(decodeIndexSegment(bytes.subarray(0, record), 'x'), [one])
})
