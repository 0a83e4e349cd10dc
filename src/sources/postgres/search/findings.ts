import type { Lsn } from '../protocol/lsn.ts'
import { type BlockReference, partsOf } from './blocks.ts'
import type { ClassRow, DatabaseRow } from './catalog-rows.ts'
import type { CatalogRow, CatalogTable, Change } from './catalog-table.ts'
import { CATALOG, type ClusterCatalog, type DatabaseCatalog, ownerKey } from './cluster-catalog.ts'
import { HEAP, HEAP_KIND, isPlainDelete } from './heap.ts'
import { MANAGER, type WalRecord } from './records.ts'
import { precedes, Running, type Touched } from './running.ts'
import { type TransactionEnd, transactionEnd } from './transaction-end.ts'

/** What one committed transaction took away. */
export interface Loss {
  kind: 'drop' | 'truncate' | 'delete' | 'update' | 'drop-database'
  /** Null: its name is not known. */
  database: string | null
  schema: string | null
  table: string | null
  /** Oid of the table, or of the database. */
  oid: number
  /** As in pg_class.relkind and relpersistence; empty for databases. */
  relationKind: string
  persistence: string
  /** Rows deleted or updated, counted. */
  rows: number | null
  /** Rows the table had, by its last ANALYZE or VACUUM; null: not known. */
  estimatedRows: number | null
  xid: number
  /** It was prepared before: right before its commit it is still there, and holds its locks. */
  prepared: boolean
  time: string
  timeMs: number
  /** Where its commit begins. */
  lsn: Lsn
  /** Where the last record begins that recovery may replay if this must not have happened. */
  before: Lsn
}

/** A row of a catalog that a transaction changed, as it was before. */
interface Affected {
  table: CatalogTable<CatalogRow>
  oid: number
  /** Set for rows of pg_class. */
  catalog: DatabaseCatalog | null
  before: CatalogRow | null
  about: Loss | null
}

/** The first oid that is not initdb's: src/include/access/transam.h. */
const FIRST_USER_OID = 16384
/** Tables, partitioned tables, materialized views, views and foreign tables. */
const DROPPED_KINDS = ['r', 'p', 'm', 'v', 'f']
/** What a database that is being dropped has as its limit: DATCONNLIMIT_INVALID_DB, src/include/catalog/pg_database.h. */
const INVALID_DATABASE = -2
const RUNNING_XACTS = 0x10

/** Follows the log record by record and tells what committed transactions took away. */
export class LossFinder {
  readonly #catalog: ClusterCatalog
  readonly #major: number
  readonly #found: (loss: Loss) => void
  readonly #running = new Running()
  /** For databases being dropped: where the record before the first sign of it begins. */
  readonly #firstSign = new Map<number, Lsn>()

  constructor(catalog: ClusterCatalog, major: number, found: (loss: Loss) => void) {
    this.#catalog = catalog
    this.#major = major
    this.#found = found
  }

  /** The end of the transaction, if the record is one. */
  follow(record: WalRecord): TransactionEnd | null {
    switch (record.manager) {
      case MANAGER.heap:
      case MANAGER.heap2:
      case MANAGER.xlog:
        this.#pages(record)
        return null
      case MANAGER.xact:
        return this.#transaction(record)
      case MANAGER.relmap:
      case MANAGER.dbase: {
        const parts = partsOf(record, this.#major)
        if (parts && record.manager === MANAGER.relmap) this.#catalog.followMap(record, parts.main)
        if (parts && record.manager === MANAGER.dbase) this.#catalog.followDatabase(record, parts.main)
        return null
      }
      case MANAGER.standby:
        if ((record.info & 0xf0) === RUNNING_XACTS) this.#forgetCrashed(record)
    }
    return null
  }

  #pages(record: WalRecord): void {
    const parts = partsOf(record, this.#major)
    const [first] = parts?.blocks ?? []
    if (!parts || !first) return
    if (record.manager === MANAGER.xlog) this.#catalog.noticeCopies(parts.blocks)
    if (this.#catalog.concerns(parts.blocks)) {
      this.#catalog.follow(record, parts, {
        deleted: (oid) => this.#sign(oid, record),
        changed: (row) => this.#changed(row, record),
      })
    }
    if (record.manager === MANAGER.heap) this.#count(record, first, parts.main)
  }

  #count(record: WalRecord, file: BlockReference, main: Buffer): void {
    const kind = record.info & HEAP_KIND
    if (kind === HEAP.delete && isPlainDelete(main)) this.#running.count(record.xid, file, 'deleted')
    if (kind === HEAP.update || kind === HEAP.hotUpdate) this.#running.count(record.xid, file, 'updated')
  }

  #transaction(record: WalRecord): TransactionEnd | null {
    const parts = partsOf(record, this.#major)
    const end = parts && transactionEnd(record, parts, this.#major)
    if (!end) return null
    const xids = [end.xid, ...end.children]
    const touched = this.#running.take(xids)
    const changes = this.#catalog.take(xids)
    if (!end.committed) {
      for (const [xid, change] of changes) change.table.resolve(change, false, xid)
      return end
    }
    // Names are those from before: a table may be emptied and dropped at once.
    for (const file of touched) this.#tellRows(file, end, record)
    this.#apply(changes, end, record)
    return end
  }

  #tellRows(file: Touched, end: TransactionEnd, record: WalRecord): void {
    const relation = this.#catalog.relationOf(file)
    const row = relation?.catalog.classes.current(relation.oid)
    // Rows of a materialized view are made anew by REFRESH, and can be again.
    if (!relation || !row || !isUserTable(row) || row.kind !== 'r') return
    const about = this.#about(relation.catalog, row, end, record)
    if (file.deleted > 0) this.#found({ ...about, kind: 'delete', rows: file.deleted })
    if (file.updated > 0) this.#found({ ...about, kind: 'update', rows: file.updated })
  }

  /** Makes the transaction's changes of catalogs true; what is different afterwards tells what it did. */
  #apply(changes: readonly [number, Change][], end: TransactionEnd, record: WalRecord): void {
    const rows = new Map<string, Affected>()
    for (const [, { table, version }] of changes) {
      const { oid } = version.row
      const catalog = this.#catalog.catalogOf(table)
      const before = table.current(oid)
      // Names of schemas and databases must be those from before too: they may go with it.
      const about = catalog && before ? this.#about(catalog, before as ClassRow, end, record) : null
      rows.set(`${this.#catalog.numberOf(table)}/${oid}`, { table, oid, catalog, before, about })
    }
    for (const [xid, change] of changes) change.table.resolve(change, true, xid)
    for (const { table, oid, catalog, before, about } of rows.values()) {
      const after = table.current(oid)
      if (catalog && about) this.#tellClass(catalog, before as ClassRow, after as ClassRow | null, about)
      const isDatabase = (table as unknown) === this.#catalog.databases
      if (isDatabase && before && !after) this.#found(this.#databaseLoss(before as DatabaseRow, end, record))
    }
  }

  #tellClass(catalog: DatabaseCatalog, before: ClassRow, after: ClassRow | null, about: Loss): void {
    if (!after) {
      if (isUserTable(before) && DROPPED_KINDS.includes(before.kind)) this.#found(about)
      return
    }
    if (after.file === before.file) return
    const key = ownerKey(catalog, after)
    // VACUUM FULL, CLUSTER, ALTER TABLE: the rows were written anew, into the file of a transient relation.
    const isRewritten = catalog.owners.get(key) !== after.oid
    catalog.owners.set(key, after.oid)
    if (after.oid === CATALOG.namespace) this.#catalog.moveNamespaces(catalog, after.file, about.lsn)
    // With another tablespace the file was copied.
    const isMoved = after.tablespace !== before.tablespace
    if (isRewritten || isMoved || !isUserTable(after) || !['r', 'm'].includes(after.kind)) return
    this.#found({ ...about, kind: 'truncate' })
  }

  #databaseLoss({ oid, name }: DatabaseRow, end: TransactionEnd, record: WalRecord): Loss {
    const before = this.#firstSign.get(oid) ?? record.prev
    this.#firstSign.delete(oid)
    return {
      kind: 'drop-database',
      database: name,
      schema: null,
      table: null,
      oid,
      relationKind: '',
      persistence: '',
      rows: null,
      estimatedRows: null,
      xid: end.xid,
      prepared: end.prepared,
      time: end.time,
      timeMs: end.timeMs,
      lsn: record.lsn,
      before,
    }
  }

  #about(catalog: DatabaseCatalog, row: ClassRow, end: TransactionEnd, record: WalRecord): Loss {
    return {
      kind: 'drop',
      database: this.#catalog.databases.current(catalog.oid)?.name ?? null,
      schema: catalog.namespaces.current(row.namespace)?.name ?? null,
      table: row.name,
      oid: row.oid,
      relationKind: row.kind,
      persistence: row.persistence,
      rows: null,
      // Up to 13, 0 is also what is not known (src/include/catalog/pg_class.h).
      estimatedRows: row.estimatedRows < 0 || (this.#major < 14 && row.estimatedRows === 0) ? null : row.estimatedRows,
      xid: end.xid,
      prepared: end.prepared,
      time: end.time,
      timeMs: end.timeMs,
      lsn: record.lsn,
      before: record.prev,
    }
  }

  /** DROP DATABASE first makes the database invalid, for good, then removes its files, then commits. */
  #changed(row: DatabaseRow, record: WalRecord): void {
    if (row.connectionLimit === INVALID_DATABASE) this.#sign(row.oid, record)
  }

  #sign(oid: number, record: WalRecord): void {
    if (!this.#firstSign.has(oid)) this.#firstSign.set(oid, record.prev)
  }

  /**
   * Of transactions from before the oldest that runs, and whose end has not been seen, there will be none: the server
   * crashed. xl_running_xacts, src/include/storage/standbydefs.h.
   */
  #forgetCrashed(record: WalRecord): void {
    const main = partsOf(record, this.#major)?.main
    if (!main || main.length < 24) return
    const oldest = main.readUInt32LE(16)
    const pending = [...this.#running.xids(), ...this.#catalog.pending.keys()]
    const crashed = pending.filter((xid) => precedes(xid, oldest))
    this.#running.take(crashed)
    for (const [xid, change] of this.#catalog.take(crashed)) change.table.resolve(change, false, xid)
  }
}

function isUserTable(row: ClassRow): boolean {
  return row.oid >= FIRST_USER_OID && row.persistence !== 't'
}
