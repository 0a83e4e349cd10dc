import assert from 'node:assert/strict'
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { dataExtents, mayHaveHoles } from './extents.ts'

const directory = mkdtempSync(join(tmpdir(), 'regain-extents-'))
after(() => rmSync(directory, { recursive: true }))

const BLOCK = 65536

/** A file of `blocks` blocks with data in those named; `size` may cut or extend it. */
function sparse(data: number[], size: number): number {
  const fd = openSync(join(directory, `f${data.slice(0, 9).join('-')}-${size}`), 'w+')
  for (const block of data) writeSync(fd, Buffer.alloc(BLOCK, 1), 0, BLOCK, block * BLOCK)
  ftruncateSync(fd, size)
  return fd
}

const cases: { name: string; data: number[]; size: number; extents: [number, number][] }[] = [
  { name: 'an empty file', data: [], size: 0, extents: [] },
  { name: 'all hole', data: [], size: 10 * BLOCK, extents: [] },
  { name: 'no hole', data: [0, 1], size: 2 * BLOCK, extents: [[0, 2 * BLOCK]] },
  { name: 'a hole at the start', data: [3], size: 4 * BLOCK, extents: [[3 * BLOCK, BLOCK]] },
  { name: 'a hole at the end', data: [0], size: 9 * BLOCK, extents: [[0, BLOCK]] },
  {
    name: 'holes between',
    data: [0, 2, 5],
    size: 6 * BLOCK,
    extents: [
      [0, BLOCK],
      [2 * BLOCK, BLOCK],
      [5 * BLOCK, BLOCK],
    ],
  },
]

for (const { name, data, size, extents } of cases) {
  test(`data ranges of ${name}`, () => {
    const fd = sparse(data, size)
    try {
      assert.deepEqual(dataExtents(fd, size), extents)
      assert.equal(mayHaveHoles(fstatSync(fd)), data.length * BLOCK < size)
    } finally {
      closeSync(fd)
    }
  })
}

test('ranges are clipped to the size asked for', () => {
  const fd = sparse([0, 2, 5], 6 * BLOCK)
  try {
    assert.deepEqual(dataExtents(fd, 2 * BLOCK + 10), [
      [0, BLOCK],
      [2 * BLOCK, 10],
    ])
  } finally {
    closeSync(fd)
  }
})

test('a file of very many holes gives a bounded list that still covers all data', () => {
  const blocks = Array.from({ length: 300 }, (_, i) => i * 2 + (i >= 200 ? i : 0))
  const size = 1000 * BLOCK
  const fd = sparse(blocks, size)
  try {
    const all = dataExtents(fd, size)
    const few = dataExtents(fd, size, 20)
    assert.ok(all.length >= 200, `${all.length}`)
    assert.ok(few.length <= 20, `${few.length}`)
    for (const [offset, length] of all) {
      assert.ok(few.some(([start, span]) => start <= offset && offset + length <= start + span))
    }
    few.reduce((end, [offset, length]) => {
      assert.ok(offset >= end && length > 0)
      return offset + length
    }, 0)
  } finally {
    closeSync(fd)
  }
})

test('a bad handle is an error, not an empty file', () => {
  assert.throws(() => dataExtents(-1, 10), { code: 'EBADF' })
})
