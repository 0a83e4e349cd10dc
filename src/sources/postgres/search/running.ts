import type { BlockReference, RelationFile } from './blocks.ts'

/** Rows of one file that a transaction, or a subtransaction, deleted or replaced. */
export interface Touched extends RelationFile {
  deleted: number
  updated: number
}

/** Of transactions that are not over yet. */
export class Running {
  readonly #touched = new Map<number, Touched[]>()

  count(xid: number, file: BlockReference, what: 'deleted' | 'updated'): void {
    const all = this.#touched.get(xid) ?? []
    if (all.length === 0) this.#touched.set(xid, all)
    // The same table again, as a rule: it was put last.
    let touched = all.at(-1)
    if (!touched || !isSame(touched, file)) {
      touched = all.find((other) => isSame(other, file))
      if (!touched) {
        const { tablespace, database, number } = file
        touched = { tablespace, database, number, deleted: 0, updated: 0 }
        all.push(touched)
      }
    }
    touched[what]++
  }

  /** What a transaction did with its subtransactions, each file once. It is over. */
  take(xids: readonly number[]): Touched[] {
    const sum: Touched[] = []
    for (const xid of xids) {
      for (const touched of this.#touched.get(xid) ?? []) {
        const known = sum.find((other) => isSame(other, touched))
        if (!known) sum.push(touched)
        else {
          known.deleted += touched.deleted
          known.updated += touched.updated
        }
      }
      this.#touched.delete(xid)
    }
    return sum
  }

  xids(): Iterable<number> {
    return this.#touched.keys()
  }
}

/** Whether transaction `a` began before `b`: numbers go round. TransactionIdPrecedes, src/backend/access/transam/transam.c. */
export function precedes(a: number, b: number): boolean {
  return ((a - b) | 0) < 0
}

function isSame(a: RelationFile, b: RelationFile): boolean {
  return a.number === b.number && a.database === b.database && a.tablespace === b.tablespace
}
