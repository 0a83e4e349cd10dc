import { RegainError } from '../../../errors.ts'
import type { PartsSelection } from '../../contract.ts'
import { nearNames, parseName, readings } from '../../postgres/parts/names.ts'
import { tableName } from '../../postgres/parts/selection.ts'
import type { TocEntry } from './archive-toc.ts'

/** What of an archive is restored. */
export interface Chosen {
  /** In the archive's order. Null: all of it. */
  entries: TocEntry[] | null
  /** SCHEMA.TABLE of the tables that were asked for, with their partitions and children. */
  tables: string[]
  /** What they need and do not bring along, for people. */
  needs: string[]
}

/** Kinds that can be named with --table. */
const TABLES = ['TABLE', 'VIEW', 'MATERIALIZED VIEW', 'FOREIGN TABLE', 'SEQUENCE']

/** Parts of a table, which come with it: what directly needs it, or a part of it, and is one of these. */
const PARTS = new Set([
  'DEFAULT',
  'CONSTRAINT',
  'CHECK CONSTRAINT',
  'INDEX',
  'INDEX ATTACH',
  'TABLE ATTACH',
  'TRIGGER',
  'RULE',
  'POLICY',
  'ROW SECURITY',
  'STATISTICS',
  'STATISTICS DATA',
  'COMMENT',
  'ACL',
  'SECURITY LABEL',
  'SEQUENCE',
  'SEQUENCE OWNED BY',
  'SEQUENCE SET',
  'TABLE DATA',
  'MATERIALIZED VIEW DATA',
])

/** Rejects with `precondition-failed`, naming what is near, if there is no such thing. */
export function choose(entries: readonly TocEntry[], { schema, tables }: PartsSelection): Chosen {
  if (schema !== null) return chooseSchema(entries, schema)
  if (tables.length > 0) return chooseTables(entries, tables)
  return { entries: null, tables: [], needs: [] }
}

function chooseSchema(entries: readonly TocEntry[], written: string): Chosen {
  const names = [...new Set(entries.flatMap(({ schema, kind, tag }) => (kind === 'SCHEMA' ? [tag] : (schema ?? []))))]
  const part = /^".+"$/.test(written) ? parseName(written).name : { text: written, quoted: false }
  const name = readings(part).find((reading) => names.includes(reading))
  if (name === undefined) throw absent(`schema "${written}"`, nearNames(written, names))
  const own = new Set(entries.filter(({ kind, tag }) => kind === 'SCHEMA' && tag === name).map(({ id }) => id))
  const chosen = entries.filter(
    (entry) =>
      entry.schema === name ||
      own.has(entry.id) ||
      (entry.schema === null && PARTS.has(entry.kind) && needsOneOf(entry, own)),
  )
  return { entries: chosen, tables: [], needs: needsOf(chosen, entries) }
}

function chooseTables(entries: readonly TocEntry[], written: readonly string[]): Chosen {
  const named = written.flatMap((text) => findTable(entries, text))
  const ids = new Set(named.map(({ id }) => id))
  addChildren(entries, ids)
  const tables = entries.filter(({ id }) => ids.has(id))
  const byId = new Map(entries.map((entry) => [entry.id, entry]))
  // What needs a part of a table is a part of it as well: a comment on its constraint.
  for (let grown = true; grown; ) {
    grown = false
    for (const entry of entries) {
      if (ids.has(entry.id) || !isPart(entry, ids, byId)) continue
      ids.add(entry.id)
      grown = true
    }
  }
  const chosen = entries.filter(({ id }) => ids.has(id))
  return { entries: chosen, tables: tables.map(nameOf), needs: needsOf(chosen, entries) }
}

function isPart(entry: TocEntry, ids: ReadonlySet<number>, byId: ReadonlyMap<number, TocEntry>): boolean {
  if (entry.kind === 'FK CONSTRAINT') {
    // It needs the key of the other table, too: it belongs to the table that its tag names.
    return entry.needs.some((id) => {
      const need = byId.get(id)
      return (
        ids.has(id) && need?.kind === 'TABLE' && need.schema === entry.schema && entry.tag.startsWith(`${need.tag} `)
      )
    })
  }
  // Of a partition without its parent, only the table itself.
  if (entry.kind.endsWith(' ATTACH'))
    return entry.needs.every((id) => ids.has(id) || !RELATED.has(byId.get(id)?.kind ?? ''))
  return PARTS.has(entry.kind) && needsOneOf(entry, ids)
}

const RELATED = new Set(['TABLE', 'CONSTRAINT', 'INDEX'])

/** Rows that a query of a partitioned or inherited table gives lie in its children, which need it. */
function addChildren(entries: readonly TocEntry[], ids: Set<number>): void {
  const attached = new Set(
    entries.flatMap(({ kind, schema, tag }) => (kind === 'TABLE ATTACH' ? [`${schema}.${tag}`] : [])),
  )
  const isChild = ({ kind, schema, tag, definition }: TocEntry) =>
    kind === 'TABLE' && (attached.has(`${schema}.${tag}`) || definition.includes('INHERITS ('))
  const children = entries.filter(isChild)
  for (let grown = true; grown; ) {
    grown = false
    for (const entry of children) {
      if (ids.has(entry.id) || !needsOneOf(entry, ids)) continue
      ids.add(entry.id)
      grown = true
    }
  }
}

function findTable(entries: readonly TocEntry[], written: string): TocEntry[] {
  const wanted = parseName(written)
  const there = entries.filter(({ kind }) => TABLES.includes(kind))
  for (const schema of wanted.schema === null ? [null] : readings(wanted.schema)) {
    for (const name of readings(wanted.name)) {
      const found = there.filter((entry) => entry.tag === name && (schema === null || entry.schema === schema))
      const schemas = new Set(found.map((entry) => entry.schema))
      if (schemas.size === 1) return found
      if (schemas.size > 1) {
        throw new RegainError(
          'usage',
          `${schemas.size} schemas have a table "${name}" in the point. Nothing was restored.`,
          {
            hint: `Name the schema too: ${found.slice(0, 8).map(nameOf).join(', ')}`,
          },
        )
      }
    }
  }
  throw absent(`table "${written}"`, nearNames(written, there.map(nameOf)))
}

function nameOf({ schema, tag }: TocEntry): string {
  return tableName({ schema: schema ?? '', name: tag })
}

/** Schemas are not among what entries say to need. */
function needsOf(chosen: readonly TocEntry[], entries: readonly TocEntry[]): string[] {
  const ids = new Set(chosen.map(({ id }) => id))
  const byId = new Map(entries.map((entry) => [entry.id, entry]))
  const needs = new Set<string>()
  for (const entry of chosen) {
    for (const id of entry.needs) {
      const need = byId.get(id)
      if (need && !ids.has(id))
        needs.add(`${need.kind.toLowerCase()} ${need.schema === null ? need.tag : nameOf(need)}`)
    }
    if (
      entry.schema !== null &&
      entry.schema !== 'public' &&
      !chosen.some(({ kind, tag }) => kind === 'SCHEMA' && tag === entry.schema)
    )
      needs.add(`schema ${entry.schema}`)
  }
  return [...needs].sort()
}

function needsOneOf(entry: TocEntry, ids: ReadonlySet<number>): boolean {
  return entry.needs.some((id) => ids.has(id))
}

function absent(what: string, near: string): RegainError {
  return new RegainError('precondition-failed', `The point has no ${what}; ${near}. Nothing was restored.`, {
    hint: 'Correct the name; or choose another point with --at.',
  })
}
