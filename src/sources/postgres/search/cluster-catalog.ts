import type { Lsn } from '../protocol/lsn.ts'
import { type BlockReference, pageOf, type RecordParts, type RelationFile } from './blocks.ts'
import {
  type ClassRow,
  classRow,
  type DatabaseRow,
  databaseRow,
  type NamespaceRow,
  namespaceRow,
  parseMap,
} from './catalog-rows.ts'
import { type CatalogRow, CatalogTable, type Change, type Pending } from './catalog-table.ts'
import type { CommitLog } from './commit-log.ts'
import { HEAP, HEAP_KIND } from './heap.ts'
import { MANAGER, type WalRecord } from './records.ts'

/** Oids of catalogs: src/include/catalog/pg_class.h, pg_namespace.h, pg_database.h. */
export const CATALOG = { class: 1259, namespace: 2615, database: 1262 } as const
/** pg_global, src/include/catalog/pg_tablespace.dat. */
const SHARED_TABLESPACE = 1664
const XLOG_DBASE_CREATE_FILE_COPY = 0x00
/** Copies of catalogs that are followed at once; those that a rewrite did not finish are among them. */
const MAX_COPIES = 16

/** What is known of one database's tables. */
export interface DatabaseCatalog {
  oid: number
  tablespace: number
  classes: CatalogTable<ClassRow>
  namespaces: CatalogTable<NamespaceRow>
  /** `TABLESPACE/FILE` to the relation that had this file first: a rewrite fills a transient relation's. */
  owners: Map<string, number>
}

interface TrackedFile extends RelationFile {
  table: CatalogTable<CatalogRow>
}

/**
 * The catalogs of a cluster that say which table has which file and name, as the log changes them. See catalog-table.ts
 * for why this is exact; where it cannot be, `lost` is called, and the catalog stays as it was last known.
 */
export class ClusterCatalog {
  readonly pending: Pending = new Map()
  databases: CatalogTable<DatabaseRow>
  readonly byDatabase = new Map<number, DatabaseCatalog>()
  readonly #major: number
  readonly #commitLog: CommitLog
  readonly #pageBytes: number
  readonly #lost: (what: string, at: Lsn) => void
  readonly #byClasses = new Map<CatalogTable<CatalogRow>, DatabaseCatalog>()
  readonly #numbers = new Map<CatalogTable<CatalogRow>, number>()
  /** Files that are being filled with rows of a catalog, to the catalog. */
  readonly #copies = new Map<CatalogTable<CatalogRow>, CatalogTable<CatalogRow>>()
  /** By file number; several databases have files of the same number. */
  readonly #tracked = new Map<number, TrackedFile[]>()

  constructor(major: number, commitLog: CommitLog, pageBytes: number, lost: (what: string, at: Lsn) => void) {
    this.#major = major
    this.#commitLog = commitLog
    this.#pageBytes = pageBytes
    this.#lost = lost
    this.databases = this.#table((values) => databaseRow(values, major))
  }

  trackDatabases(number: number): void {
    this.#track({ tablespace: SHARED_TABLESPACE, database: 0, number }, this.databases)
  }

  addDatabase(oid: number, tablespace: number): DatabaseCatalog {
    const classes = this.#table((values) => classRow(values, this.#major))
    const catalog: DatabaseCatalog = {
      oid,
      tablespace,
      classes,
      namespaces: this.#table((values) => namespaceRow(values)),
      owners: new Map(),
    }
    classes.onRow = (row) => {
      const key = ownerKey(catalog, row)
      if (row.file !== 0 && !catalog.owners.has(key)) catalog.owners.set(key, row.oid)
    }
    this.byDatabase.set(oid, catalog)
    this.#byClasses.set(classes as never, catalog)
    return catalog
  }

  track(catalog: DatabaseCatalog, which: 'classes' | 'namespaces', number: number): void {
    const table = catalog[which] as unknown as CatalogTable<CatalogRow>
    this.#track({ tablespace: catalog.tablespace, database: catalog.oid, number }, table)
  }

  /** The relation whose file this is. */
  relationOf({ tablespace, database, number }: RelationFile): { catalog: DatabaseCatalog; oid: number } | null {
    const catalog = this.byDatabase.get(database)
    const oid = catalog?.owners.get(`${tablespace}/${number}`)
    return catalog && oid !== undefined ? { catalog, oid } : null
  }

  /** Whether a block of the record may belong to one of the catalogs. */
  concerns(blocks: readonly BlockReference[]): boolean {
    return blocks.some(({ number }) => this.#tracked.has(number))
  }

  /** Follows a record that changes pages. */
  follow(record: WalRecord, { blocks, main }: RecordParts, hooks: DatabaseHooks): void {
    for (const block of blocks) {
      const table = this.#tableOf(block)
      if (!table || !block.image) continue
      const page = pageOf(block.image, this.#pageBytes)
      if (page) table.setPage(block.block, page)
      else this.#lost('a page of a system catalog is in the log in a form that this version cannot read', record.lsn)
    }
    const [first] = blocks
    const table = first && this.#tableOf(first)
    if (!table || record.manager !== MANAGER.heap || main.length < 2) return
    const number = main.readUInt16LE(0)
    switch (record.info & HEAP_KIND) {
      case HEAP.insert:
        table.insert(first, number, record.xid)
        return
      case HEAP.update:
      case HEAP.hotUpdate:
        table.update(blocks, main, record.xid)
        return
      case HEAP.delete: {
        // xl_heap_delete begins with the transaction.
        const row = main.length < 8 ? null : table.delete(first, main.readUInt16LE(4), record.xid)
        if (row && (table as unknown) === this.databases) hooks.deleted(row.oid, record)
        return
      }
      case HEAP.inplace: {
        const row = table.changeInPlace(first, number)
        if (row && (table as unknown) === this.databases) hooks.changed(row as DatabaseRow, record)
      }
    }
  }

  /** A catalog was rewritten, or a database made by a copy through the log: xl_relmap_update, src/include/utils/relmapper.h. */
  followMap(record: WalRecord, main: Buffer): void {
    if (main.length < 12) return
    const database = main.readUInt32LE(0)
    const map = parseMap(main.subarray(12))
    if (database === 0) {
      const file = { tablespace: SHARED_TABLESPACE, database, number: map?.get(CATALOG.database) ?? 0 }
      const copy = this.#adopt(this.databases, file)
      if (copy) this.databases = copy
      else this.#lost('the list of databases was rewritten', record.lsn)
      return
    }
    const known = this.byDatabase.get(database)
    const number = map?.get(CATALOG.class)
    if (known) {
      const copy = this.#adopt(known.classes, { tablespace: known.tablespace, database, number: number ?? 0 })
      if (copy) {
        known.classes = copy
        this.#byClasses.set(copy as never, known)
      } else this.#lost(`the system catalogs of ${this.databaseName(database)} were rewritten`, record.lsn)
    }
    if (known || number === undefined) return
    const catalog = this.addDatabase(database, main.readUInt32LE(4))
    this.track(catalog, 'classes', number)
    // What initdb gives it. Where it has another one, its schemas stay without names.
    this.track(catalog, 'namespaces', CATALOG.namespace)
  }

  /** A database made by copying files: xl_dbase_create_file_copy_rec, src/include/commands/dbcommands_xlog.h. */
  followDatabase(record: WalRecord, main: Buffer): void {
    if ((record.info & 0xf0) !== XLOG_DBASE_CREATE_FILE_COPY || main.length < 16) return
    const oid = main.readUInt32LE(0)
    const source = this.byDatabase.get(main.readUInt32LE(8))
    if (!source || this.byDatabase.has(oid)) return
    const catalog = this.addDatabase(oid, main.readUInt32LE(4))
    source.classes.copyTo(catalog.classes)
    source.namespaces.copyTo(catalog.namespaces)
    const files = [...this.#tracked.values()].flat().filter(({ database }) => database === source.oid)
    for (const { number, table } of files)
      this.track(catalog, (table as unknown) === source.classes ? 'classes' : 'namespaces', number)
  }

  /** Whether there is such a table, or database where no table is named. */
  knows(wanted: { database: string | null; schema: string | null; table: string | null }): boolean {
    for (const { oid, name } of this.databases.rows()) {
      if (wanted.database !== null && name !== wanted.database) continue
      if (wanted.table === null) return true
      const catalog = this.byDatabase.get(oid)
      for (const row of catalog?.classes.rows() ?? []) {
        if (row.name !== wanted.table) continue
        if (wanted.schema === null || catalog?.namespaces.current(row.namespace)?.name === wanted.schema) return true
      }
    }
    return false
  }

  /** The database whose pg_class this is. */
  catalogOf(table: CatalogTable<CatalogRow>): DatabaseCatalog | null {
    return this.#byClasses.get(table) ?? null
  }

  /** Tells tables apart. */
  numberOf(table: CatalogTable<CatalogRow>): number {
    return this.#numbers.get(table) ?? 0
  }

  /**
   * VACUUM FULL and CLUSTER write a catalog's rows into a new file, page by page, and say only at their end that it is the
   * catalog's. So a file whose pages look like a catalog's is followed from its first one on.
   */
  noticeCopies(blocks: readonly BlockReference[]): void {
    for (const block of blocks) {
      if (!block.image || block.fork !== 0 || this.#tableOf(block)) continue
      const catalog = this.byDatabase.get(block.database)
      const tables = (block.database === 0 ? [this.databases] : [catalog?.classes, catalog?.namespaces]) as (
        | CatalogTable<CatalogRow>
        | undefined
      )[]
      const page = tables[0] ? pageOf(block.image, this.#pageBytes) : null
      const original = page && tables.find((table) => table?.resembles(page))
      if (!original) continue
      const copy = original.empty()
      this.#copies.set(copy, original)
      this.#numbers.set(copy, this.#numbers.size + 1)
      const { tablespace, database, number } = block
      this.#track({ tablespace, database, number }, copy)
      const [oldest] = this.#copies.keys()
      if (this.#copies.size > MAX_COPIES && oldest) this.#forget(oldest)
    }
  }

  /** The schemas of a database were rewritten. */
  moveNamespaces(catalog: DatabaseCatalog, number: number, at: Lsn): void {
    const { tablespace, oid: database } = catalog
    const copy = this.#adopt(catalog.namespaces, { tablespace, database, number })
    if (copy) catalog.namespaces = copy
    else this.#lost(`the list of schemas of ${this.databaseName(database)} was rewritten`, at)
  }

  /** The table whose file this is now: the one that it was, or its copy. Null: nothing is known of the file. */
  #adopt<Row extends CatalogRow>(table: CatalogTable<Row>, file: RelationFile): CatalogTable<Row> | null {
    const found = this.#fileOf(file)?.table as CatalogTable<Row> | undefined
    if (!found || found === table) return found ?? null
    if ((this.#copies.get(found as never) as unknown) !== table) return null
    this.#copies.delete(found as never)
    this.#forget(table as never)
    return found
  }

  #forget(table: CatalogTable<CatalogRow>): void {
    this.#copies.delete(table)
    this.#byClasses.delete(table)
    for (const [number, files] of this.#tracked) {
      const others = files.filter((file) => file.table !== table)
      if (others.length === 0) this.#tracked.delete(number)
      else if (others.length < files.length) this.#tracked.set(number, others)
    }
  }

  databaseName(oid: number): string {
    const name = this.databases.current(oid)?.name
    return name === undefined ? `database ${oid}` : `database "${name}"`
  }

  /** What transactions did to catalogs, taken out of what is pending. */
  take(xids: readonly number[]): [number, Change][] {
    const changes: [number, Change][] = []
    for (const xid of xids) {
      for (const change of this.pending.get(xid) ?? []) changes.push([xid, change])
      this.pending.delete(xid)
    }
    return changes
  }

  #table<Row extends CatalogRow>(parse: (values: Buffer) => Row | null): CatalogTable<Row> {
    const table = new CatalogTable(parse, this.pending, (xid) => this.#commitLog.state(xid))
    this.#numbers.set(table as never, this.#numbers.size + 1)
    return table
  }

  #track<Row extends CatalogRow>(file: RelationFile, table: CatalogTable<Row>): void {
    const files = this.#tracked.get(file.number) ?? []
    this.#tracked.set(file.number, files)
    files.push({ ...file, table: table as never })
  }

  #tableOf(block: BlockReference): CatalogTable<CatalogRow> | null {
    return block.fork === 0 ? (this.#fileOf(block)?.table ?? null) : null
  }

  #fileOf({ tablespace, database, number }: RelationFile): TrackedFile | undefined {
    return this.#tracked.get(number)?.find((file) => file.database === database && file.tablespace === tablespace)
  }
}

/** What happens to the list of databases before its transaction ends: DROP DATABASE cannot be rolled back. */
export interface DatabaseHooks {
  deleted(oid: number, record: WalRecord): void
  changed(row: DatabaseRow, record: WalRecord): void
}

export function ownerKey(catalog: DatabaseCatalog, row: ClassRow): string {
  return `${row.tablespace === 0 ? catalog.tablespace : row.tablespace}/${row.file}`
}
