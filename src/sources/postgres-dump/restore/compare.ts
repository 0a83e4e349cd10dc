import type { DatabaseFingerprint, Missed, Point } from '../../../model.ts'
import type { SourceOptions } from '../../contract.ts'
import { compareFingerprints } from '../../fingerprint.ts'
import { readDatabase } from '../../postgres/fingerprint/read-database.ts'
import { lookAt } from '../../postgres/fingerprint/take-fingerprint.ts'
import type { ConnectionConfig } from '../../postgres/protocol/connection-url.ts'

export interface Compared {
  point: Point
  /** As it was called in the point. */
  database: string
  /** Where it is now. */
  config: ConnectionConfig
  /** Null: all of it was restored. Else whether this table was; then only numbers of rows are compared. */
  isRestored: ((table: string) => boolean) | null
  options: SourceOptions
  now(): number
}

/** Bounds what counting may take after a restore. */
const MAX_COMPARE_MS = 300_000

/** What the restored database lacks of what was counted when the dump was made, in the dump's own snapshot. */
export async function compareRestored(request: Compared): Promise<Missed[]> {
  const { point, database, config, isRestored, options, now } = request
  const known = point.fingerprint?.databases.find(({ name }) => name === database)
  if (known === undefined || known.problem !== undefined) {
    options.warn(`${database} was not compared with its point, which has no counts of it.`)
    return []
  }
  const counts = isRestored === null ? known.counts : known.counts.filter(({ table }) => isRestored(table))
  if (isRestored !== null && counts.length === 0) {
    options.warn(`What was restored of ${database} was not compared: the point has counts of other tables only.`)
    return []
  }
  options.progress({ phase: 'compare', bytesDone: point.bytes.source })
  const endMs = now() + MAX_COMPARE_MS
  const look = {
    leftMs: () => endMs - now(),
    maxCounts: counts.length,
    tables: counts.map(({ table }) => table),
    isLeftOut: () => false,
  }
  const found = await lookAt(config, options.signal, (client) => readDatabase(client, config.database, look))
  const expected: DatabaseFingerprint = { ...known, name: config.database, counts }
  // Of parts, only the rows: definitions of the rest are not there, or another's.
  const same = isRestored === null ? {} : { schema: expected.schema, largeObjects: expected.largeObjects }
  const of = (one: DatabaseFingerprint) => ({ at: '', databases: [one] })
  return compareFingerprints(of(expected), of({ ...found, ...same }), { sameMoment: true }).map(
    ({ database: name, table, detail }) => ({ path: table ?? name, reason: 'damaged', detail }),
  )
}
