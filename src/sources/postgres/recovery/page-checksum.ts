/** src/include/storage/checksum_impl.h, the same from 13 to 18. */
const OFFSETS = Uint32Array.of(
  0x5b1f36e9,
  0xb8525960,
  0x02ab50aa,
  0x1de66d2a,
  0x79ff467a,
  0x9bb9f8a3,
  0x217e7cd2,
  0x83e13d2c,
  0xf8d4474f,
  0xe39eb970,
  0x42c6ae16,
  0x993216fa,
  0x7b093b5d,
  0x98daff3c,
  0xf718902a,
  0x0b1c9cdb,
  0xe58f764b,
  0x187636bc,
  0x5d7b3bb1,
  0xe73de7de,
  0x92bec979,
  0xcca6c0b2,
  0x304a0979,
  0x85aa43d4,
  0x783125bb,
  0x6ca8eaa2,
  0xe407eac6,
  0x4b5cfc3e,
  0x9fbf8c76,
  0x15ca20be,
  0xf2ca9fd3,
  0x959bd756,
)
const PRIME = 16777619
/** In the header of a page, two bytes. */
export const CHECKSUM_OFFSET = 8

/** Of a page's content, wherever it is; its own two bytes of checksum count as zeros. */
export function contentChecksum(page: Buffer): number {
  const words = Buffer.from(page)
  words.writeUInt16LE(0, CHECKSUM_OFFSET)
  const sums = OFFSETS.slice()
  const mix = (lane: number, value: number): void => {
    const mixed = (sums[lane]! ^ value) >>> 0
    sums[lane] = Math.imul(mixed, PRIME) ^ (mixed >>> 17)
  }
  for (let at = 0; at < words.length; at += 4) mix((at / 4) % sums.length, words.readUInt32LE(at))
  for (let round = 0; round < 2; round++) for (let lane = 0; lane < sums.length; lane++) mix(lane, 0)
  return sums.reduce((all, sum) => (all ^ sum) >>> 0, 0)
}

/** What stands in a page's header: `block` counts from the beginning of the relation, not of its file. */
export function pageChecksum(content: number, block: number): number {
  return (((content ^ block) >>> 0) % 65_535) + 1
}
