import { throwIfInterrupted } from '../../../errors.ts'
import type { Lsn } from '../protocol/lsn.ts'
import { parseMap } from './catalog-rows.ts'
import type { CatalogRow, CatalogTable } from './catalog-table.ts'
import { CATALOG, ClusterCatalog } from './cluster-catalog.ts'
import { CommitLog } from './commit-log.ts'
import { INFOMASK, pageBytesOf, tuplesOf } from './heap.ts'
import { type PointFiles, readPages, readSmall, unreadable } from './point-files.ts'

/** pg_default, src/include/catalog/pg_tablespace.dat. */
const DEFAULT_TABLESPACE = 1663

/**
 * Reads the catalogs out of a point's files. What they say is exact from the log of the point's start on. Rejects with
 * `repository-damaged` if they cannot be read.
 */
export async function loadCatalog(
  files: PointFiles,
  major: number,
  lost: (what: string, at: Lsn | null) => void,
  signal: AbortSignal,
): Promise<ClusterCatalog> {
  const { catalog, load, file } = await beginCatalog(files, major, lost, signal)
  catalog.trackDatabases(file)
  for (const { oid, name, tablespace } of [...catalog.databases.rows()]) {
    // It was made or dropped while the point was taken; if it is being made, the log tells of it.
    const gone = (): void => lost(`the point does not hold the catalogs of database "${name}" whole`, null)
    const folder = await databaseFolder(files, oid, tablespace, major)
    const map = await mapIn(files, folder)
    if (map === null) {
      gone()
      continue
    }
    const classFile = map.get(CATALOG.class) ?? CATALOG.class
    const database = catalog.addDatabase(oid, tablespace)
    const hasClasses = await load(database.classes, `${folder}/${classFile}`)
    catalog.track(database, 'classes', classFile)
    const namespaceFile = database.classes.current(CATALOG.namespace)?.file ?? CATALOG.namespace
    const hasNamespaces = await load(database.namespaces, `${folder}/${namespaceFile}`)
    catalog.track(database, 'namespaces', namespaceFile)
    if (!hasClasses || !hasNamespaces) gone()
  }
  return catalog
}

/** Databases of a point, by its list of them as it was while the point was taken. Rejects as loadCatalog. */
export async function loadDatabases(
  files: PointFiles,
  major: number,
  signal: AbortSignal,
): Promise<{ oid: number; name: string }[]> {
  const { catalog } = await beginCatalog(files, major, () => undefined, signal)
  return [...catalog.databases.rows()].map(({ oid, name }) => ({ oid, name }))
}

/** A catalog with the list of databases. */
async function beginCatalog(
  files: PointFiles,
  major: number,
  lost: (what: string, at: Lsn | null) => void,
  signal: AbortSignal,
): Promise<{
  catalog: ClusterCatalog
  load<Row extends CatalogRow>(table: CatalogTable<Row>, path: string): Promise<boolean>
  /** Number of the list's file. */
  file: number
}> {
  const shared = await mapIn(files, 'global')
  if (shared === null) throw unreadable('global/pg_filenode.map', 'it is not there, or no map')
  const databasesFile = `global/${shared.get(CATALOG.database) ?? CATALOG.database}`
  let pageBytes = 0
  await readPages(files, databasesFile, async (_block, page) => {
    if (pageBytes === 0) pageBytes = pageBytesOf(page)
  })
  if (pageBytes === 0) throw unreadable(databasesFile, 'it is not there')
  const commitLog = new CommitLog((path) => readSmall(files, path), pageBytes)
  const catalog = new ClusterCatalog(major, commitLog, pageBytes, lost)

  const load = <Row extends CatalogRow>(table: CatalogTable<Row>, path: string): Promise<boolean> =>
    readPages(files, path, async (block, page) => {
      throwIfInterrupted(signal)
      await prepareFor(page, commitLog)
      table.setPage(block, page)
    })

  await load(catalog.databases, databasesFile)
  return { catalog, load, file: shared.get(CATALOG.database) ?? CATALOG.database }
}

/** What pg_xact says is read where tuples do not say themselves how their transactions ended. */
async function prepareFor(page: Buffer, commitLog: CommitLog): Promise<void> {
  for (const [, { xmin, xmax, infomask }] of tuplesOf(page)) {
    if ((infomask & (INFOMASK.xminCommitted | INFOMASK.xminInvalid)) === 0) await commitLog.prepare(xmin)
    if (xmax !== 0 && (infomask & (INFOMASK.xmaxCommitted | INFOMASK.xmaxInvalid | INFOMASK.xmaxMulti)) === 0)
      await commitLog.prepare(xmax)
  }
}

async function mapIn(files: PointFiles, folder: string): Promise<Map<number, number> | null> {
  const bytes = await readSmall(files, `${folder}/pg_filenode.map`)
  return bytes === null ? null : parseMap(bytes)
}

/** In tablespaces, databases lie below a folder that names major version and catalog version. */
async function databaseFolder(files: PointFiles, oid: number, tablespace: number, major: number): Promise<string> {
  if (tablespace === DEFAULT_TABLESPACE) return `base/${oid}`
  // ControlFileData, src/include/catalog/pg_control.h: system identifier, control version, catalog version.
  const control = await readSmall(files, 'global/pg_control')
  if (control === null || control.length < 16) throw unreadable('global/pg_control', 'it is not there')
  return `pg_tblspc/${tablespace}/PG_${major}_${control.readUInt32LE(12)}/${oid}`
}
