import assert from 'node:assert/strict'
import { test } from 'node:test'
import { METADATA_PACK_BYTES, packTargetBytes } from '../format/pack.ts'
import { MAX_PACKS } from './chunk-table.ts'
import { segments } from './pack-store.ts'

const MIB = 1024 * 1024

function pack(number: number, directoryBytes: number) {
  return { name: Buffer.alloc(32, number), sizeBytes: 1, directory: Buffer.alloc(directoryBytes) }
}

test('an index segment is of few packs, or of few bytes, and every pack is in one, in order', () => {
  const sizes = [...Array(70).fill(100), ...Array(9).fill(MIB), 5 * MIB, 5 * MIB, 100]
  const packs = sizes.map((bytes, number) => pack(number, bytes))
  const cut = [...segments(packs)]
  assert.deepEqual(
    cut.map((segment) => segment.length),
    [32, 32, 10, 4, 2, 1, 1],
  )
  assert.deepEqual(
    cut.flat().map(({ name }) => name[0]),
    packs.map(({ name }) => name[0]),
  )
  assert.deepEqual([...segments([])], [])
})

test('a repository of small packs first, then of large ones, holds 28 TiB', () => {
  let bytes = 0
  const step = 2 ** 8
  for (let packs = 0; packs <= MAX_PACKS - step; packs += step) bytes += step * packTargetBytes(packs)
  assert.ok(bytes > 27.9 * 1024 ** 4)
  assert.equal(packTargetBytes(0), 16 * MIB)
  assert.ok(METADATA_PACK_BYTES < packTargetBytes(0))
})
