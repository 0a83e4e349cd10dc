import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { deriveDomainKeys } from '../format/domain-keys.ts'
import { decodeDirectory, METHOD_STORED, METHOD_ZSTD, packTargetBytes } from '../format/pack.ts'
import { type FinishedPack, PackBuilder } from './pack-builder.ts'

const KIB = 1024
const text = Buffer.from('An order of 3 items for customer 1742, paid.\n'.repeat(6000)).subarray(0, 256 * KIB)
/** A page of a table: a few bytes that differ, and padding. */
const pages = Buffer.concat(Array.from({ length: 32 }, () => Buffer.concat([randomBytes(512), Buffer.alloc(7680)])))

/** Method by which the group that holds each chunk is kept. */
function methodsOf(chunks: readonly Buffer[]): number[] {
  const packs: FinishedPack[] = []
  const builder = new PackBuilder({
    keys: deriveDomainKeys(randomBytes(32), randomBytes(16), 1),
    randomBytes,
    level: 2,
    packBytes: packTargetBytes(0),
    takeBuffer: (bytes) => new ArrayBuffer(bytes),
    finished: (pack) => packs.push(pack),
  })
  chunks.forEach((chunk, index) => {
    builder.add(Buffer.alloc(32, index), chunk)
  })
  builder.flush()
  const methods: number[] = []
  for (const pack of packs)
    for (const group of decodeDirectory(pack.directory, 'pack'))
      for (const chunk of group.chunks) methods[chunk.id[0]!] = group.method
  return methods
}

test('what does not compress is stored as it is, apart from what does', () => {
  const random = randomBytes(256 * KIB)
  assert.deepEqual(methodsOf([text, random, pages, randomBytes(40 * KIB)]), [
    METHOD_ZSTD,
    METHOD_STORED,
    METHOD_ZSTD,
    METHOD_STORED,
  ])
})

test('a random middle does not hide a beginning that compresses', () => {
  assert.deepEqual(methodsOf([Buffer.concat([text, randomBytes(256 * KIB)])]), [METHOD_ZSTD])
})
