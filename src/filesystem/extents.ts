import { errorCode, seekData, seekHole } from './libc.ts'

/** Holes are only worth asking for where less is allocated than the size says: `blocks` counts 512-byte units. */
export function mayHaveHoles(stat: { blocks: bigint; size: bigint } | { blocks: number; size: number }): boolean {
  return Number(stat.blocks) * 512 < Number(stat.size)
}

/**
 * Data ranges [offset, length] of an open file, ascending, clipped to `sizeBytes`; everything between reads as zeros.
 * [[0, size]] where there are no holes or the file system does not tell; [] if all is hole. Moves the handle's offset.
 *
 * At most `limit` ranges: in a file of very many the smallest holes count as data (zeros), so that a listing's record
 * and the memory for it stay bounded whatever the file looks like.
 */
export function dataExtents(fd: number, sizeBytes: number, limit = 4096): [number, number][] {
  let extents: [number, number][] = []
  let smallestHole = 1
  let at = 0
  while (at < sizeBytes) {
    const range = nextData(fd, at)
    if (range === 'unsupported') return [[0, sizeBytes]]
    if (range === null || range.start >= sizeBytes) break
    const end = Math.min(range.end, sizeBytes)
    append(extents, range.start, end - range.start, smallestHole)
    at = end
    while (extents.length > limit) {
      smallestHole *= 2
      extents = extents.reduce<[number, number][]>((kept, [offset, length]) => {
        append(kept, offset, length, smallestHole)
        return kept
      }, [])
    }
  }
  return extents
}

/** Adds a range; a hole before it that is smaller than `smallestHole` becomes part of the range before. */
function append(extents: [number, number][], offset: number, length: number, smallestHole: number): void {
  const last = extents.at(-1)
  if (last === undefined || offset - (last[0] + last[1]) >= smallestHole) {
    extents.push([offset, length])
    return
  }
  last[1] = offset + length - last[0]
}

function nextData(fd: number, from: number): { start: number; end: number } | null | 'unsupported' {
  try {
    const start = seekData(fd, from)
    if (start === null) return null
    // Null: the file was cut short in between. What is read later will tell.
    const end = seekHole(fd, start)
    return end === null ? null : { start, end }
  } catch (error) {
    if (['EINVAL', 'ENOTSUP', 'ESPIPE'].includes(errorCode(error))) return 'unsupported'
    throw error
  }
}
