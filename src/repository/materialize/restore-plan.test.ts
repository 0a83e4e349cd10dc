import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Entry } from '../../model.ts'
import { FRAME_BYTES } from '../format/sealed.ts'
import type { ChunkPlace, KnownPack } from '../packs/chunk-index.ts'
import { FileLayout, type FileUnderWay, RestoreWindow } from './restore-plan.ts'

const TARGET = { directory: '/target', places: [] }

const MIB = 1024 * 1024

describe('the layout of a file', () => {
  it('puts every byte where the data ranges say, however chunks and ranges cross', () => {
    const cuts = fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 12 })
    const ranges = fc.array(fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 60 })), {
      maxLength: 8,
    })
    fc.assert(
      fc.property(ranges, cuts, fc.nat(30), (gaps, lengths, tail) => {
        let end = 0
        const extents = gaps.map(([gap, length]) => {
          const extent: [number, number] = [end + gap, length]
          end += gap + length
          return extent
        })
        const bytes = extents.reduce((sum, [, length]) => sum + length, 0)
        // Byte n of the content goes to this offset of the file.
        const positions = extents.flatMap(([offset, length]) => Array.from({ length }, (_, i) => offset + i))
        const layout = new FileLayout(file('f', end + tail, extents))
        let done = 0
        for (const chunk of split(bytes, lengths)) {
          const pieces = layout.place(chunk)
          assert.equal(
            pieces.reduce((sum, piece) => sum + piece.length, 0),
            chunk,
          )
          for (const { chunkOffset, length, position } of pieces)
            for (let i = 0; i < length; i++) assert.equal(position + i, positions[done + chunkOffset + i])
          done += chunk
        }
        layout.end()
      }),
    )
  })

  it('refuses content that is longer or shorter than its ranges, and ranges that make no sense', () => {
    const damaged = { code: 'repository-damaged' }
    const short = new FileLayout(file('f', 10))
    short.place(9)
    assert.throws(() => short.end(), damaged)
    assert.throws(() => new FileLayout(file('f', 10)).place(11), damaged)
    assert.throws(() => new FileLayout(file('f', 0)).place(1), damaged)
    for (const extents of [
      [[0, 11]],
      [[-1, 2]],
      [[0, 0]],
      [
        [0, 2],
        [1, 2],
      ],
      [
        [5, 2],
        [0, 2],
      ],
      [[0.5, 1]],
      [[0, Number.NaN]],
      [[2 ** 53, 1]],
    ] as [number, number][][])
      assert.throws(() => new FileLayout(file('f', 10, extents)), damaged, JSON.stringify(extents))
  })
})

describe('the plan of a restore', () => {
  it('reads what lies together at once, each chunk once, up to a bounded stretch', () => {
    const window = new RestoreWindow()
    const packs = [pack('a', 40), pack('b', 3)]
    const files = packs.map((one) => underWay(one.name, 40 * MIB))
    packs.forEach((one, p) => {
      for (const [g] of [...one.groups.entries()].reverse())
        window.add(files[p]!, id(p * 100 + g), place(one, p, g), [{ chunkOffset: 0, length: MIB, position: g * MIB }])
    })
    for (const file of files) file.planned = true
    const planned = window.plan(TARGET, true)
    const read = planned.map(({ job }) => `${job.source.pack} ${job.source.groups.map(({ offset }) => offset / MIB)}`)
    assert.ok(
      planned.every(({ job }) => span(job.source.groups) <= 4 * MIB),
      read.join('; '),
    )
    assert.equal(planned.flatMap(({ job }) => job.source.groups).length, 43)
    assert.equal(planned.filter(({ job }) => job.source.pack === 'b').length, 1)
    assert.equal(files[0]!.jobs, planned.length - 1)
    assert.deepEqual(
      planned.filter(({ single }) => single.size > 0).map(({ files: [one] }) => one),
      [files[1]],
    )
  })

  it('does not read over large gaps', () => {
    const window = new RestoreWindow()
    const one = pack('a', 4)
    const file = underWay('f', 4 * MIB)
    for (const g of [0, 3]) window.add(file, id(g), place(one, 0, g), [{ chunkOffset: 0, length: 1, position: g }])
    assert.equal(window.plan(TARGET, false).length, 2)
    assert.ok(2 * MIB > 2 * FRAME_BYTES)
  })

  it('has no job write for long, however often a chunk is wanted', () => {
    const window = new RestoreWindow()
    const one = pack('a', 3)
    const file = underWay('f', 210 * MIB)
    for (let n = 0; n < 210; n++) {
      const g = n < 10 ? 0 : n < 200 ? 1 : 2
      window.add(file, id(g), place(one, 0, g), [{ chunkOffset: 0, length: MIB, position: n * MIB }])
    }
    file.planned = true
    const planned = window.plan(TARGET, true)
    const written = planned.flatMap(({ job, chunks }) => {
      const pieces = Array.from({ length: job.pieces.length / 5 }, (_, n) => job.pieces.subarray(n * 5, n * 5 + 5))
      assert.ok(pieces.length <= 32, `${pieces.length} MiB in one job`)
      assert.equal(chunks.flatMap((chunk) => chunk.pieces).length, pieces.length)
      return pieces.map(([chunk, , , , position]) => [position! / MIB, chunks[chunk!]!.id.readUInt32LE()])
    })
    assert.deepEqual(
      written.sort(([a], [b]) => a! - b!),
      Array.from({ length: 210 }, (_, n) => [n, id(n < 10 ? 0 : n < 200 ? 1 : 2).readUInt32LE()]),
    )
    assert.deepEqual([planned.length, file.jobs], [7, 7])
    assert.ok(planned.every(({ single }) => single.size === 0))
  })

  it('writes a chunk that many files share to each of them from one reading', () => {
    const window = new RestoreWindow()
    const one = pack('a', 1)
    const files = Array.from({ length: 30 }, (_, i) => underWay(`f${i}`, 10))
    for (const file of files) {
      window.add(file, id(1), place(one, 0, 0), [{ chunkOffset: 5, length: 10, position: 0 }])
      file.planned = true
    }
    assert.equal(window.bytes, 30 * MIB, 'bounded by what is written, not by what is read')
    const [planned, ...others] = window.plan(TARGET, true)
    assert.deepEqual(others, [])
    assert.equal(planned!.job.ids.length, 32)
    assert.deepEqual([...planned!.job.places], [0, 0, MIB])
    assert.equal(planned!.job.pieces.length, 30 * 5)
    assert.deepEqual([...planned!.job.pieces.subarray(5 * 7, 5 * 8)], [0, 5, 10, 7, 0])
    assert.equal(planned!.single.size, 30)
    assert.ok(planned!.job.files.every(({ entry }) => entry !== undefined))
  })

  it('leaves it to the main thread to finish files of several jobs, of several windows, or already made', () => {
    const one = pack('a', 12)
    const whole = underWay('whole', MIB)
    const two = underWay('two', 2 * MIB)
    const open = underWay('open', 2 * MIB)
    const made = underWay('made', MIB)
    const window = new RestoreWindow()
    window.add(whole, id(0), place(one, 0, 0), [{ chunkOffset: 0, length: MIB, position: 0 }])
    window.add(two, id(1), place(one, 0, 1), [{ chunkOffset: 0, length: MIB, position: 0 }])
    window.add(two, id(11), place(one, 0, 11), [{ chunkOffset: 0, length: MIB, position: MIB }])
    window.add(open, id(2), place(one, 0, 2), [{ chunkOffset: 0, length: MIB, position: 0 }])
    window.add(made, id(3), place(one, 0, 3), [{ chunkOffset: 0, length: MIB, position: 0 }])
    for (const file of [whole, two, made]) file.planned = true
    made.made = true
    const single = window.plan(TARGET, true).flatMap((planned) => [...planned.single])
    assert.deepEqual(
      single.map(({ entry }) => entry.path),
      ['whole'],
    )
    assert.deepEqual([whole.jobs, two.jobs, open.jobs, made.jobs], [1, 2, 1, 1])
  })

  it('tells packs apart by name, from whichever index their places come', () => {
    const window = new RestoreWindow()
    const file = underWay('f', 2)
    const [a, b] = [pack('a', 1), pack('b', 1)]
    // Both are number 0, each of its own index.
    window.add(file, id(1), place(a, 0, 0), [{ chunkOffset: 0, length: 1, position: 0 }])
    window.add(file, id(2), place(b, 0, 0), [{ chunkOffset: 0, length: 1, position: 1 }])
    window.add(file, id(1), place(pack('a', 1), 5, 0), [{ chunkOffset: 0, length: 1, position: 2 }])
    const planned = window.plan(TARGET, true)
    assert.deepEqual(
      planned.map(({ job }) => [job.source.pack, job.pieces.length / 5]),
      [
        ['a', 2],
        ['b', 1],
      ],
    )
  })
})

function file(path: string, size: number, extents?: [number, number][]): Entry {
  return { path, type: 'file', mode: 0o644, uid: 0, gid: 0, mtime: '1', size, ...(extents ? { extents } : {}) }
}

function underWay(path: string, size: number): FileUnderWay {
  return { entry: file(path, size), jobs: 0, planned: false, made: false, lost: null }
}

/** Groups of 1 MiB, one chunk each. */
function pack(name: string, groups: number): KnownPack {
  const places = Array.from({ length: groups }, (_, g) => ({
    offset: g * MIB,
    storedBytes: MIB,
    rawBytes: MIB,
    method: 0,
  }))
  return { name, sizeBytes: groups * MIB, groups: places }
}

function place(knownPack: KnownPack, packNumber: number, group: number): ChunkPlace {
  return { pack: packNumber, group, offset: 0, length: MIB, knownPack, groupPlace: knownPack.groups[group]! }
}

function id(number: number): Buffer {
  return Buffer.alloc(32, number)
}

function span(groups: readonly { offset: number; storedBytes: number }[]): number {
  return groups.at(-1)!.offset + groups.at(-1)!.storedBytes - groups[0]!.offset
}

function split(bytes: number, lengths: readonly number[]): number[] {
  const chunks: number[] = []
  let left = bytes
  for (const length of lengths) {
    if (left === 0) break
    chunks.push(Math.min(length, left))
    left -= chunks.at(-1)!
  }
  return left > 0 ? [...chunks, left] : chunks
}
