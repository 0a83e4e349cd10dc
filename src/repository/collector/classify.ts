import type { PlannedPack } from '../api.ts'
import { type Catalog, type CatalogPack, groupsOf } from './catalog.ts'
import type { Marks } from './mark.ts'

/** A pack with a larger share of needed bytes is left as it is: it would cost more to write anew than it frees. */
const SPARSE_SHARE = 0.7

/** What of each pack is needed and kept nowhere else; null: it stays as it is. `older`: packs of a key epoch that is to end. */
export function classify(catalog: Catalog, marks: Marks, older: ReadonlySet<string>): PlannedPack[] {
  const usable = new Set(catalog.byNumber)
  const planned: PlannedPack[] = []
  for (const pack of catalog.packs) {
    const { needed, share } = neededOf(pack, marks)
    const why = reason(pack, usable.has(pack), needed, share) ?? (older.has(pack.name) ? 'epoch' : null)
    if (why) planned.push({ name: pack.name, bytes: pack.sizeBytes, needed: share, why })
  }
  return planned
}

/** Of the pack as stored: compression is taken for even. */
export function neededBytes({ bytes, needed }: PlannedPack): number {
  return Math.ceil(bytes * needed)
}

function reason(pack: CatalogPack, isUsable: boolean, needed: boolean, share: number): PlannedPack['why'] | null {
  if (pack.marked) return 'marked'
  if (!pack.directory) return 'unindexed'
  // Not of its size: whatever is needed was found in others, or the mark would have failed.
  if (!isUsable || !needed) return 'dead'
  if (share === 0) return 'redundant'
  return share < SPARSE_SHARE ? 'sparse' : null
}

/** `needed`: whether anything of it is, here or in another copy. `share`: of what only this pack keeps, by bytes of chunks. */
function neededOf(pack: CatalogPack, marks: Marks): { needed: boolean; share: number } {
  let all = 0
  let kept = 0
  let needed = false
  for (const group of groupsOf(pack))
    for (const chunk of group.chunks) {
      all += chunk.length
      if (!marks.needs(chunk.id)) continue
      needed = true
      if (marks.keeper(chunk.id) === pack) kept += chunk.length
    }
  return { needed, share: all === 0 ? 0 : kept / all }
}
