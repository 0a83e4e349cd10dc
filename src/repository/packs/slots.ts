/** What the tables of chunks (chunk-table.ts, claim-table.ts) share: where in a table an id belongs, and how full one may be. */
const MIN_SLOTS = 1 << 10
/** An id that is not there is then looked for in 13 slots on average, which are neighbours. */
export const FULL_SHARE = 0.8

/** Slots of a table for so many ids. */
export function slotsFor(ids: number): number {
  return Math.max(MIN_SLOTS, Math.ceil(ids / FULL_SHARE))
}

/** The slot where the search for an id begins, by its first word: ids are HMACs, so all slots are alike. */
export function homeSlot(firstWord: number, slots: number): number {
  return Math.floor((firstWord / 2 ** 32) * slots)
}

/** Four bytes of an id. */
export function word(id: Uint8Array, at: number): number {
  return (
    ((id[at] as number) |
      ((id[at + 1] as number) << 8) |
      ((id[at + 2] as number) << 16) |
      ((id[at + 3] as number) << 24)) >>>
    0
  )
}
