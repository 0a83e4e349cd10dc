/**
 * Expanders for page images in the log (wal_compression). Formats: src/common/pg_lzcompress.c of PostgreSQL, and LZ4's
 * block format (lz4_Block_format.md). Both give null for what does not expand to exactly `length` bytes.
 */

/**
 * Groups of eight items behind a byte that tells, lowest bit first, what each is: 0 a byte as it stands, 1 a reference
 * back: 4 bits length − 3, 12 bits distance, and where the length is 18 another byte to add to it.
 */
export function expandPglz(source: Buffer, length: number): Buffer | null {
  const out = Buffer.allocUnsafe(length)
  let from = 0
  let to = 0
  while (from < source.length && to < length) {
    let control = source[from++]!
    for (let item = 0; item < 8 && from < source.length && to < length; item++, control >>= 1) {
      if ((control & 1) === 0) {
        out[to++] = source[from++]!
        continue
      }
      if (from + 2 > source.length) return null
      const first = source[from++]!
      const distance = ((first & 0xf0) << 4) | source[from++]!
      let count = (first & 0x0f) + 3
      if (count === 18) {
        if (from >= source.length) return null
        count += source[from++]!
      }
      // What would go beyond the page is cut, as the original does.
      const end = Math.min(length, to + count)
      if (distance === 0 || distance > to) return null
      while (to < end) {
        out[to] = out[to - distance]!
        to++
      }
    }
  }
  return to === length && from === source.length ? out : null
}

/** Sequences: a token of two lengths, literals, a distance of two bytes, each length of 15 going on in further bytes. */
export function expandLz4(source: Buffer, length: number): Buffer | null {
  const out = Buffer.allocUnsafe(length)
  let from = 0
  let to = 0
  const more = (count: number): number => {
    if (count !== 15) return count
    let total = count
    while (from < source.length) {
      const byte = source[from++]!
      total += byte
      if (byte !== 255) return total
    }
    return Number.POSITIVE_INFINITY
  }
  while (from < source.length) {
    const token = source[from++]!
    const literals = more(token >> 4)
    if (literals > source.length - from || literals > length - to) return null
    source.copy(out, to, from, from + literals)
    from += literals
    to += literals
    if (from === source.length) break
    if (from + 2 > source.length) return null
    const distance = source.readUInt16LE(from)
    from += 2
    const count = more(token & 0x0f) + 4
    if (distance === 0 || distance > to || count > length - to) return null
    for (const end = to + count; to < end; to++) out[to] = out[to - distance]!
  }
  return to === length ? out : null
}
