import type { DatabaseFingerprint, Fingerprint, TableCount } from '../model.ts'

export interface FingerprintDifference {
  database: string
  /** SCHEMA.TABLE; absent: it is about the database. */
  table?: string
  what: 'database-missing' | 'not-compared' | 'schema' | 'large-objects' | 'table-missing' | 'rows'
  /** For people: a whole sentence. */
  detail: string
}

export interface CompareOptions {
  /**
   * True: what is compared is said to be of the very moment of the fingerprint, so exact counts must be equal. False: of
   * another one, and numbers may be apart as estimates may.
   */
  sameMoment: boolean
}

/** How far apart two numbers may be that are not both exact: this share of the larger one, or so many rows. */
const TOLERATED_SHARE = { sampled: 0.25, estimated: 0.5 }
const TOLERATED_ROWS = 1000

/**
 * What `found` lacks of `expected`, or has otherwise; empty: nothing that the two can tell. `found` must have counted the
 * tables that `expected` names (`tables` of readDatabase); what it has besides does not matter, but shows in the schema.
 * What could not be looked at is a difference too, `not-compared`: it must not pass for proof.
 */
export function compareFingerprints(
  expected: Fingerprint,
  found: Fingerprint,
  { sameMoment }: CompareOptions,
): FingerprintDifference[] {
  const there = new Map(found.databases.map((database) => [database.name, database]))
  return expected.databases.flatMap((database) => {
    const other = there.get(database.name)
    if (other !== undefined) return compareDatabases(database, other, sameMoment)
    return [{ database: database.name, what: 'database-missing', detail: `There is no database ${database.name}.` }]
  })
}

function compareDatabases(
  expected: DatabaseFingerprint,
  found: DatabaseFingerprint,
  sameMoment: boolean,
): FingerprintDifference[] {
  const { name } = expected
  const problem = expected.problem ?? found.problem
  if (problem !== undefined)
    return [{ database: name, what: 'not-compared', detail: `${name} could not be compared: ${problem}` }]
  const differences: FingerprintDifference[] = []
  if (expected.schema !== found.schema) {
    const detail = `Definitions in ${name} are not those that there were: ${expected.tables} tables before, ${found.tables} now.`
    differences.push({ database: name, what: 'schema', detail })
  }
  if (expected.largeObjects !== found.largeObjects && (sameMoment || found.largeObjects === 0)) {
    const detail = `${name} had ${expected.largeObjects} large objects and has ${found.largeObjects}.`
    differences.push({ database: name, what: 'large-objects', detail })
  }
  const counts = new Map(found.counts.map((count) => [count.table, count]))
  for (const count of expected.counts) {
    const difference = compareCounts(count, counts.get(count.table), sameMoment)
    if (difference !== null) differences.push({ database: name, table: count.table, ...difference })
  }
  return differences
}

function compareCounts(
  expected: TableCount,
  found: TableCount | undefined,
  sameMoment: boolean,
): Pick<FingerprintDifference, 'what' | 'detail'> | null {
  if (found === undefined) return { what: 'table-missing', detail: `There is no table ${expected.table}.` }
  // What was left out on purpose says nothing of what is there, nor does what nobody could count.
  if (expected.how === 'left-out' || expected.rows === null || found.rows === null) return null
  const isExact = sameMoment && expected.how === 'exact' && found.how === 'exact'
  const isFar = isExact ? expected.rows !== found.rows : !isNear(expected.rows, found.rows, [expected.how, found.how])
  if (!isFar) return null
  const words = ({ rows, how }: TableCount) => `${rows} rows${how === 'exact' ? '' : ` (${how})`}`
  return { what: 'rows', detail: `${expected.table} had ${words(expected)} and has ${words(found)}.` }
}

function isNear(a: number, b: number, hows: TableCount['how'][]): boolean {
  const share = hows.includes('estimated') ? TOLERATED_SHARE.estimated : TOLERATED_SHARE.sampled
  return Math.abs(a - b) <= Math.max(TOLERATED_ROWS, share * Math.max(a, b))
}
