import type { BlockReference } from './blocks.ts'
import type { TransactionState } from './commit-log.ts'
import {
  changedInPlace,
  type HeapTuple,
  INFOMASK,
  insertedTuple,
  tuplesOf,
  updatedTuple,
  updatePlaces,
  valuesOf,
} from './heap.ts'

export interface CatalogRow {
  oid: number
  name: string
}

/** A version of a row, and what is known of the transactions that made it and ended it. */
export interface Version<Row> {
  row: Row
  tuple: HeapTuple
  made: 'committed' | 'pending' | 'aborted'
  ended: 'no' | 'pending' | 'committed'
  /** The transaction or subtransaction that ended it, or is about to. */
  endedBy: number
}

/** What a transaction did to one row; takes effect when it commits. */
export interface Change {
  table: CatalogTable<CatalogRow>
  version: Version<CatalogRow>
  what: 'made' | 'ended'
}

/** Changes by transaction or subtransaction, of all tables. */
export type Pending = Map<number, Change[]>

/**
 * The rows of one catalog, kept as the log changes them. It begins with the files of a point, of which some pages are
 * newer than others: PostgreSQL writes each page whole into the log when it is first changed after the point's start
 * (full_page_writes, always on during a backup), so from there on what this holds is exact.
 */
export class CatalogTable<Row extends CatalogRow> {
  readonly #parse: (values: Buffer) => Row | null
  readonly #pending: Pending
  readonly #state: (xid: number) => TransactionState
  readonly #blocks = new Map<number, Map<number, Version<Row>>>()
  readonly #byOid = new Map<number, Set<Version<Row>>>()
  /** Told of each row that appears, in the order of the log. */
  onRow: (row: Row) => void = () => undefined

  constructor(
    parse: (values: Buffer) => Row | null,
    pending: Pending,
    /** How transactions ended before the log that is followed, as far as is known. */
    state: (xid: number) => TransactionState,
  ) {
    this.#parse = parse
    this.#pending = pending
    this.#state = state
  }

  /** The row as of the transactions that have committed. Null: there is none, or none any more. */
  current(oid: number): Row | null {
    let found = null as Version<Row> | null
    for (const version of this.#byOid.get(oid) ?? []) {
      if (version.made !== 'committed' || version.ended === 'committed') continue
      // Where the page names an end of which nothing is known, a version without one counts more.
      if (found === null || !isEnded(version.tuple) || isEnded(found.tuple)) found = version
    }
    return found?.row ?? null
  }

  /** All current rows. */
  *rows(): Generator<Row> {
    for (const oid of this.#byOid.keys()) {
      const row = this.current(oid)
      if (row !== null) yield row
    }
  }

  /** Whether the page holds rows of this table, as a rewrite's pages do. */
  resembles(page: Buffer): boolean {
    return tuplesOf(page).some(([, tuple]) => {
      const row = this.#parse(valuesOf(tuple))
      return row !== null && this.current(row.oid)?.name === row.name
    })
  }

  /** A table of the same kind, without rows. */
  empty(): CatalogTable<Row> {
    const table = new CatalogTable(this.#parse, this.#pending, this.#state)
    table.onRow = this.onRow
    return table
  }

  /** A page's whole content, from a file or from the log. */
  setPage(block: number, page: Buffer): void {
    const before = this.#blocks.get(block)
    const after = new Map<number, Version<Row>>()
    this.#blocks.set(block, after)
    for (const [number, tuple] of tuplesOf(page)) {
      const known = before?.get(number)
      const version = known?.tuple.xmin === tuple.xmin ? this.#refresh(known, tuple) : this.#judge(tuple)
      if (version === null) continue
      after.set(number, version)
      if (version !== known) this.#add(version)
      before?.delete(number)
      if (known !== undefined && version !== known) this.#forget(known)
    }
    for (const version of before?.values() ?? []) this.#forget(version)
  }

  /** Blocks beyond the end of a file that was read do not exist; nothing to do for them. */
  insert(block: BlockReference, number: number, xid: number): void {
    const tuple = block.data && insertedTuple(block.data, xid)
    // With an image in the record, the page has the row already.
    const version = tuple ? this.#place(block.block, number, tuple) : this.#at(block.block, number)
    if (version) this.#made(version, xid)
  }

  /** Of the table's blocks in the record: the new version's (id 0), and the old one's where that is another. */
  update(blocks: readonly BlockReference[], main: Buffer, xid: number): void {
    const places = updatePlaces(main)
    const to = blocks.find(({ id }) => id === 0)
    const from = blocks.find(({ id }) => id === 1) ?? to
    if (!places || !to || !from) return
    const old = this.#at(from.block, places.oldNumber)
    if (old) this.#end(old, xid)
    const tuple = to.data && updatedTuple(to.data, places.flags, old?.tuple ?? null, xid)
    const version = tuple ? this.#place(to.block, places.newNumber, tuple) : this.#at(to.block, places.newNumber)
    if (version) this.#made(version, xid)
  }

  /** The row that is deleted, if it is known. */
  delete(block: BlockReference, number: number, xid: number): Row | null {
    const version = this.#at(block.block, number)
    if (version) this.#end(version, xid)
    return version?.row ?? null
  }

  /** The row as it is now; it changes at once, whatever becomes of the transaction. */
  changeInPlace(block: BlockReference, number: number): Row | null {
    const version = this.#at(block.block, number)
    if (!version) return null
    const tuple = block.data && changedInPlace(version.tuple, block.data)
    const row = tuple && this.#parse(valuesOf(tuple))
    if (tuple && row) Object.assign(version, { tuple, row })
    return version.row
  }

  /** What a transaction that ended did to this table comes true, or never happened. */
  resolve(change: Change, committed: boolean, xid: number): void {
    const version = change.version as Version<Row>
    if (change.what === 'made') {
      version.made = committed ? 'committed' : 'aborted'
      if (!committed) this.#forget(version)
      return
    }
    // Another transaction may have ended it since, if the end of this one never was in the log.
    if (version.ended !== 'pending' || version.endedBy !== xid) return
    version.ended = committed ? 'committed' : 'no'
    if (committed) this.#forget(version)
  }

  /** The same content for another table: a copied database. */
  copyTo(other: CatalogTable<Row>): void {
    for (const [block, numbers] of this.#blocks) {
      const copy = new Map<number, Version<Row>>()
      for (const [number, version] of numbers) {
        if (version.made !== 'committed' || version.ended === 'committed') continue
        const copied: Version<Row> = { ...version, ended: 'no', endedBy: 0 }
        copy.set(number, copied)
        other.#add(copied)
      }
      other.#blocks.set(block, copy)
    }
  }

  #at(block: number, number: number): Version<Row> | null {
    return this.#blocks.get(block)?.get(number) ?? null
  }

  #place(block: number, number: number, tuple: HeapTuple): Version<Row> | null {
    const row = this.#parse(valuesOf(tuple))
    if (row === null) return null
    const numbers = this.#blocks.get(block) ?? new Map<number, Version<Row>>()
    this.#blocks.set(block, numbers)
    const before = numbers.get(number)
    if (before) this.#forget(before)
    const version: Version<Row> = { row, tuple, made: 'pending', ended: 'no', endedBy: 0 }
    numbers.set(number, version)
    this.#add(version)
    return version
  }

  #made(version: Version<Row>, xid: number): void {
    version.made = 'pending'
    this.#note(xid, { table: this as never, version, what: 'made' })
  }

  #end(version: Version<Row>, xid: number): void {
    version.ended = 'pending'
    version.endedBy = xid
    this.#add(version)
    this.#note(xid, { table: this as never, version, what: 'ended' })
  }

  #note(xid: number, change: Change): void {
    const changes = this.#pending.get(xid)
    if (!changes) this.#pending.set(xid, [change])
    else if (!changes.some(({ version, what }) => version === change.version && what === change.what))
      changes.push(change)
  }

  /** A version that was known before its page came whole: who made it is known better than the page says. */
  #refresh(version: Version<Row>, tuple: HeapTuple): Version<Row> | null {
    const row = this.#parse(valuesOf(tuple))
    if (row === null) return null
    if (row.oid !== version.row.oid) return this.#judge(tuple)
    Object.assign(version, { row, tuple })
    // The page is older than what the file of the point was, or the transaction that ended it was rolled back.
    if (!isEnded(tuple) && version.ended !== 'no') {
      version.ended = 'no'
      if (version.made !== 'aborted') this.#add(version)
    }
    return version
  }

  /** A version of which only the page is known. Null: it is no row of this catalog. */
  #judge(tuple: HeapTuple): Version<Row> | null {
    const row = this.#parse(valuesOf(tuple))
    if (row === null) return null
    const { infomask, xmin, xmax } = tuple
    const version: Version<Row> = { row, tuple, made: 'committed', ended: 'no', endedBy: 0 }
    if ((infomask & INFOMASK.xminCommitted) === 0) {
      const state = (infomask & INFOMASK.xminInvalid) !== 0 ? 'aborted' : this.#stateOf(xmin)
      version.made = state === 'unknown' ? 'pending' : state
      if (state === 'unknown') this.#made(version, xmin)
    }
    if (!isEnded(tuple)) return version
    // Of several transactions at once (multixact) the page does not say which one: it counts until a newer version does.
    const isMulti = (infomask & INFOMASK.xmaxMulti) !== 0
    const state = (infomask & INFOMASK.xmaxCommitted) !== 0 ? 'committed' : isMulti ? 'aborted' : this.#stateOf(xmax)
    if (state === 'committed') version.ended = 'committed'
    if (state === 'unknown') {
      version.ended = 'pending'
      version.endedBy = xmax
      this.#note(xmax, { table: this as never, version, what: 'ended' })
    }
    return version
  }

  /** Bootstrap and frozen transactions have numbers of their own: src/include/access/transam.h. */
  #stateOf(xid: number): TransactionState {
    return xid < 3 ? 'committed' : this.#state(xid)
  }

  #add(version: Version<Row>): void {
    if (version.made === 'aborted' || version.ended === 'committed') return
    const versions = this.#byOid.get(version.row.oid) ?? new Set()
    this.#byOid.set(version.row.oid, versions)
    if (versions.has(version)) return
    versions.add(version)
    this.onRow(version.row)
  }

  #forget(version: Version<Row>): void {
    const versions = this.#byOid.get(version.row.oid)
    versions?.delete(version)
    if (versions?.size === 0) this.#byOid.delete(version.row.oid)
  }
}

/** Whether a transaction is named that deleted or replaced it, and not only locked it: HEAP_XMAX_IS_LOCKED_ONLY. */
export function isEnded({ xmax, infomask }: HeapTuple): boolean {
  if (xmax === 0 || (infomask & INFOMASK.xmaxInvalid) !== 0) return false
  if ((infomask & INFOMASK.xmaxLockOnly) !== 0) return false
  const lockBits = INFOMASK.xmaxMulti | INFOMASK.xmaxExclusive | INFOMASK.xmaxKeyShare
  return (infomask & lockBits) !== INFOMASK.xmaxExclusive
}
