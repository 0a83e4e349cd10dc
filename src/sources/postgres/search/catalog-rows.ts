/** Rows of three catalogs, read from their values. All columns used here have a fixed place, before any that may be null. */

/** src/include/catalog/pg_class.h */
export interface ClassRow {
  oid: number
  name: string
  namespace: number
  /** 0: none, or the map of the database says it. */
  file: number
  /** 0: that of the database. */
  tablespace: number
  /** By the last ANALYZE or VACUUM; negative: unknown. */
  estimatedRows: number
  /** p permanent, u unlogged, t temporary. */
  persistence: string
  /** r table, p partitioned table, m materialized view, v view, f foreign table, i index, t TOAST … */
  kind: string
}

/** src/include/catalog/pg_namespace.h */
export interface NamespaceRow {
  oid: number
  name: string
}

/** src/include/catalog/pg_database.h */
export interface DatabaseRow {
  oid: number
  name: string
  connectionLimit: number
  tablespace: number
}

export function classRow(values: Buffer, major: number): ClassRow | null {
  // 18 has relallfrozen before reltoastrelid.
  const flags = major >= 18 ? 118 : 114
  if (values.length < flags + 2) return null
  return {
    oid: values.readUInt32LE(0),
    name: nameAt(values, 4),
    namespace: values.readUInt32LE(68),
    file: values.readUInt32LE(88),
    tablespace: values.readUInt32LE(92),
    estimatedRows: values.readFloatLE(100),
    persistence: String.fromCharCode(values[flags]!),
    kind: String.fromCharCode(values[flags + 1]!),
  }
}

export function namespaceRow(values: Buffer): NamespaceRow | null {
  if (values.length < 68) return null
  return { oid: values.readUInt32LE(0), name: nameAt(values, 4) }
}

export function databaseRow(values: Buffer, major: number): DatabaseRow | null {
  // Up to 14 the collation's two names stand in the fixed part, and datlastsysoid does.
  const limit = major >= 15 ? 80 : 208
  const tablespace = major >= 15 ? 92 : 224
  if (values.length < tablespace + 4) return null
  return {
    oid: values.readUInt32LE(0),
    name: nameAt(values, 4),
    connectionLimit: values.readInt32LE(limit),
    tablespace: values.readUInt32LE(tablespace),
  }
}

/** NameData: 64 bytes, filled up with zeros. */
function nameAt(values: Buffer, at: number): string {
  const name = values.subarray(at, at + 64)
  const end = name.indexOf(0)
  return name.toString('utf8', 0, end < 0 ? 64 : end)
}

const MAP_MAGIC = 0x592717

/** pg_filenode.map: which files mapped catalogs have, by oid. Layout: RelMapFile, src/backend/utils/cache/relmapper.c. */
export function parseMap(bytes: Buffer): Map<number, number> | null {
  if (bytes.length < 8 || bytes.readInt32LE(0) !== MAP_MAGIC) return null
  const count = bytes.readInt32LE(4)
  if (count < 0 || 8 + count * 8 > bytes.length) return null
  const files = new Map<number, number>()
  for (let i = 0; i < count; i++) files.set(bytes.readUInt32LE(8 + i * 8), bytes.readUInt32LE(12 + i * 8))
  return files
}
