/** A row's version as it lies in a heap page: src/include/access/htup_details.h. */
export interface HeapTuple {
  xmin: number
  xmax: number
  infomask: number
  /** Where its values begin, counted from the tuple's beginning. */
  valuesAt: number
  /** From the end of the fixed header on (offset 23): null bitmap, padding, values. */
  body: Buffer
}

export const TUPLE_HEADER_BYTES = 23

export const INFOMASK = {
  xmaxKeyShare: 0x0010,
  xmaxExclusive: 0x0040,
  xmaxLockOnly: 0x0080,
  xminCommitted: 0x0100,
  xminInvalid: 0x0200,
  xmaxCommitted: 0x0400,
  xmaxInvalid: 0x0800,
  xmaxMulti: 0x1000,
} as const

/** Bytes of the values, without bitmap and padding. */
export function valuesOf(tuple: HeapTuple): Buffer {
  return tuple.body.subarray(tuple.valuesAt - TUPLE_HEADER_BYTES)
}

/** Size of the pages of a file, by the header of one: src/include/storage/bufpage.h. */
export function pageBytesOf(page: Buffer): number {
  return page.length < 24 ? 0 : page.readUInt16LE(18) & 0xff00
}

/**
 * The tuples of a page with their numbers. Copies them. What lies outside of the page is left out: a page that was
 * copied while it was written may hold such, and the log brings it again.
 */
export function tuplesOf(page: Buffer): [number, HeapTuple][] {
  const tuples: [number, HeapTuple][] = []
  if (page.length < 24) return tuples
  const lower = Math.min(page.readUInt16LE(12), page.length)
  for (let at = 24, number = 1; at + 4 <= lower; at += 4, number++) {
    // ItemIdData, src/include/storage/itemid.h: offset 15 bits, state 2, length 15.
    const item = page.readUInt32LE(at)
    const offset = item & 0x7fff
    const length = item >>> 17
    const isNormal = ((item >>> 15) & 3) === 1
    if (!isNormal || length <= TUPLE_HEADER_BYTES || offset + length > page.length) continue
    const bytes = page.subarray(offset, offset + length)
    const valuesAt = bytes[22]!
    if (valuesAt < TUPLE_HEADER_BYTES || valuesAt > length) continue
    tuples.push([
      number,
      {
        xmin: bytes.readUInt32LE(0),
        xmax: bytes.readUInt32LE(4),
        infomask: bytes.readUInt16LE(20),
        valuesAt,
        body: Buffer.from(bytes.subarray(TUPLE_HEADER_BYTES)),
      },
    ])
  }
  return tuples
}

/** Kinds of RM_HEAP records: src/include/access/heapam_xlog.h, the same from 13 to 18. */
export const HEAP = { insert: 0x00, delete: 0x10, update: 0x20, hotUpdate: 0x40, inplace: 0x70 } as const
export const HEAP_KIND = 0x70

/** xl_heap_delete: its row was not the reader's loss (a row of a failed insert, or one that moved to another partition). */
const DELETE_IS_SUPER = 0x08
const DELETE_IS_MOVE = 0x10

export function isPlainDelete(main: Buffer): boolean {
  return main.length >= 8 && (main[7]! & (DELETE_IS_SUPER | DELETE_IS_MOVE)) === 0
}

/** xl_heap_header and what follows it, as inserts have it. Null: it does not read as one. */
export function insertedTuple(data: Buffer, xid: number): HeapTuple | null {
  if (data.length < 5) return null
  return checked({
    xmin: xid,
    xmax: 0,
    infomask: data.readUInt16LE(2),
    valuesAt: data[4]!,
    body: Buffer.from(data.subarray(5)),
  })
}

const PREFIX_FROM_OLD = 0x20
const SUFFIX_FROM_OLD = 0x40

export interface UpdatePlaces {
  oldNumber: number
  newNumber: number
  flags: number
}

/** xl_heap_update. */
export function updatePlaces(main: Buffer): UpdatePlaces | null {
  if (main.length < 14) return null
  return { oldNumber: main.readUInt16LE(4), flags: main[7]!, newNumber: main.readUInt16LE(12) }
}

/** The new version of an updated row: beginning and end of its values may be those of the old version. */
export function updatedTuple(data: Buffer, flags: number, old: HeapTuple | null, xid: number): HeapTuple | null {
  let position = 0
  const length = (flag: number): number => {
    if ((flags & flag) === 0) return 0
    position += 2
    return position > data.length ? Number.NaN : data.readUInt16LE(position - 2)
  }
  const prefix = length(PREFIX_FROM_OLD)
  const suffix = length(SUFFIX_FROM_OLD)
  const rest = data.subarray(position)
  if (rest.length < 5 || Number.isNaN(prefix + suffix)) return null
  const valuesAt = rest[4]!
  const bitmapBytes = valuesAt - TUPLE_HEADER_BYTES
  if (prefix + suffix > 0 && (old === null || prefix > valuesOf(old).length || suffix > old.body.length)) return null
  const values = rest.subarray(5 + bitmapBytes)
  const body = Buffer.concat([
    rest.subarray(5, 5 + bitmapBytes),
    ...(prefix > 0 ? [valuesOf(old!).subarray(0, prefix)] : []),
    values,
    ...(suffix > 0 ? [old!.body.subarray(old!.body.length - suffix)] : []),
  ])
  return checked({ xmin: xid, xmax: 0, infomask: rest.readUInt16LE(2), valuesAt, body })
}

/** xl_heap_inplace: other values of the same length in the same version. */
export function changedInPlace(tuple: HeapTuple, values: Buffer): HeapTuple | null {
  const kept = tuple.valuesAt - TUPLE_HEADER_BYTES
  if (kept + values.length !== tuple.body.length) return null
  return { ...tuple, body: Buffer.concat([tuple.body.subarray(0, kept), values]) }
}

function checked(tuple: HeapTuple): HeapTuple | null {
  const kept = tuple.valuesAt - TUPLE_HEADER_BYTES
  return kept >= 0 && kept <= tuple.body.length ? tuple : null
}
