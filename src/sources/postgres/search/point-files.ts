import { RegainError } from '../../../errors.ts'
import { pageBytesOf } from './heap.ts'

/** Reads files of a point by their path in it; null if there is none. */
export interface PointFiles {
  read(path: string): Promise<AsyncIterable<Buffer> | null>
}

/** Limit for what is read whole: a file of pg_xact has 256 KiB with pages of the usual size. */
const MAX_SMALL_BYTES = 4 * 1024 * 1024

export async function readSmall(files: PointFiles, path: string): Promise<Buffer | null> {
  const pieces = await files.read(path)
  if (pieces === null) return null
  const parts: Buffer[] = []
  let bytes = 0
  for await (const piece of pieces) {
    parts.push(Buffer.from(piece))
    bytes += piece.length
    if (bytes > MAX_SMALL_BYTES) throw unreadable(path, 'it is larger than such a file can be')
  }
  return Buffer.concat(parts)
}

/** The pages of a relation's file, in order; the parts that follow the first GiB included. False: there is no such file. */
export async function readPages(
  files: PointFiles,
  path: string,
  onPage: (block: number, page: Buffer) => Promise<void>,
): Promise<boolean> {
  let block = 0
  let pageBytes = 0
  for (let part = 0; ; part++) {
    const pieces = await files.read(part === 0 ? path : `${path}.${part}`)
    if (pieces === null) return part > 0
    let rest: Buffer = Buffer.alloc(0)
    for await (const piece of pieces) {
      const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece])
      if (pageBytes === 0 && bytes.length >= 24) pageBytes = checkedPageBytes(bytes, path)
      let position = 0
      for (; pageBytes > 0 && position + pageBytes <= bytes.length; position += pageBytes)
        await onPage(block++, bytes.subarray(position, position + pageBytes))
      rest = Buffer.from(bytes.subarray(position))
    }
  }
}

function checkedPageBytes(page: Buffer, path: string): number {
  const bytes = pageBytesOf(page)
  // The first page of a catalog is never empty.
  if (![1024, 2048, 4096, 8192, 16384, 32768].includes(bytes)) throw unreadable(path, 'its first page is none')
  return bytes
}

export function unreadable(path: string, why: string): RegainError {
  return new RegainError(
    'repository-damaged',
    `The point's ${path} cannot be read as what it should be: ${why}. So tables cannot be told by their names.`,
    { hint: 'Search from another point (--from), and run: regain verify --read-data' },
  )
}
