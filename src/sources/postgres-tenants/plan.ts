import type { Catalog, Column, ForeignKey, Table } from './catalog.ts'
import { components } from './components.ts'
import { meets, type TenantRules } from './rules.ts'

/**
 * Whose rows are whose, table by table. Each row has at most one way to a tenant: the column of its table that names one,
 * or the row that the first of its table's deciding keys which is not null refers to. So no row is of two tenants,
 * whatever the data says, and what is of no tenant is of nobody.
 */
export interface TenantPlan {
  root: NamedTable
  /** With the root, which is first; a table comes after those that its first deciding key leads to. */
  owned: OwnedTable[]
  /** Tables of which rows go along because rows of tenants refer to them; they belong to nobody. */
  references: ReferenceTable[]
  /** References that can lead from a tenant's rows to another's. What they lead to stays out. */
  crossings: ForeignKey[]
  /** Tables of which nothing is ever in a tenant's point. */
  outside: Table[]
}

export interface OwnedTable {
  table: Table
  by: { kind: 'column'; column: Column } | { kind: 'keys'; keys: ForeignKey[] }
  /** Tables (by oid) that are in a circle of deciding keys with it, itself included; empty: it is in none. */
  circle: number[]
}

/** One that has a column which names the tenant. */
export type NamedTable = OwnedTable & { by: { kind: 'column' } }

export interface ReferenceTable {
  table: Table
  /** Its rows of nobody only: the others are of tenants. Null: all of its rows are nobody's. */
  nobody: OwnedTable | null
  /** From tables of tenants, or other tables of references, to it. */
  from: { key: ForeignKey; owned: OwnedTable | null }[]
  circle: number[]
}

/** Pure. With problems, which name what to correct in the rules or the database, there is no plan. */
export function planTenants(catalog: Catalog, rules: TenantRules): { plan: TenantPlan } | { problems: string[] } {
  const problems: string[] = []
  const isExcluded = meets(rules.exclude)
  const isShared = meets(rules.shared)
  const tables = catalog.tables.filter((table) => !isExcluded(table))
  const byOid = new Map(tables.map((table) => [table.oid, table]))
  const keys = catalog.keys.filter(({ child, parent }) => byOid.has(child) && byOid.has(parent))

  const rootTable = only(rules.table, 'table')
  const rootColumn = rootTable && columnOf(rootTable, rules.key)
  if (rootTable === null || rootColumn === null) return { problems }
  const owners = new Map(
    Object.entries(rules.owners).flatMap(([name, columns]) => {
      const table = only(name, 'owners')
      return table === null ? [] : [[table.oid, columns] as const]
    }),
  )
  for (const name of rules.columns)
    if (!tables.some((table) => find(table, name))) problems.push(`columns: no table has a column ${name}.`)

  const root: NamedTable = { table: rootTable, by: { kind: 'column', column: rootColumn }, circle: [] }
  const owned = [root, ...namedTables(), ...followedTables()]
  if (problems.length > 0) return { problems }
  findCircles(owned)
  const references = findReferences(owned, byOid, keys)
  const exported = new Set([...owned, ...references].map(({ table }) => table.oid))
  const crossings = keys.filter(({ child }) => exported.has(child)).filter((key) => canCross(key, owned, references))
  const outside = catalog.tables.filter(({ oid }) => !exported.has(oid))
  return { plan: { root, owned, references, crossings, outside } }

  /** Those that have a column which names the tenant. */
  function namedTables(): OwnedTable[] {
    return tables.flatMap((table) => {
      if (table === rootTable || isShared(table) || owners.has(table.oid)) return []
      const column = rules.columns.map((name) => find(table, name)).find((found) => found !== null)
      return column ? [{ table, by: { kind: 'column' as const, column }, circle: [] }] : []
    })
  }

  /** Those from which keys lead to a tenant, nearest first. */
  function followedTables(): OwnedTable[] {
    const distances = new Map([root, ...namedTables()].map(({ table }) => [table.oid, 0]))
    const found: OwnedTable[] = []
    for (const [oid, columns] of owners) {
      const table = byOid.get(oid)!
      const column = columns.length === 1 ? find(table, columns[0]!) : null
      if (keys.some((key) => key.child === oid && sameColumns(key, columns))) continue
      if (column === null) problems.push(`owners: ${table.text} has no column or foreign key (${columns.join(', ')}).`)
      else {
        distances.set(oid, 0)
        found.push({ table, by: { kind: 'column', column }, circle: [] })
      }
    }
    const candidates = (oid: number) =>
      keys.filter((key) => key.child === oid && (!owners.has(oid) || sameColumns(key, owners.get(oid)!)))
    for (let distance = 1; ; distance++) {
      const next = tables.filter(
        (table) =>
          !distances.has(table.oid) &&
          !isShared(table) &&
          candidates(table.oid).some(({ parent }) => distances.get(parent) === distance - 1),
      )
      if (next.length === 0) break
      for (const { oid } of next) distances.set(oid, distance)
      found.push(...next.map((table) => ({ table, by: { kind: 'keys' as const, keys: [] }, circle: [] })))
    }
    for (const { table, by } of found)
      if (by.kind === 'keys') by.keys = decidingKeys(table, candidates(table.oid), distances)
    if (problems.length > 0) return []
    for (const [oid] of owners)
      if (!distances.has(oid))
        problems.push(`owners: the columns of ${byOid.get(oid)!.text} do not lead to ${rules.table}.`)
    return found
  }

  function only(written: string, setting: string): Table | null {
    const isMeant = meets([written])
    const matches = tables.filter(isMeant)
    if (matches.length === 1) return matches[0]!
    if (matches.length === 0) problems.push(`${setting}: there is no table ${written}, or it is excluded.`)
    else problems.push(`${setting}: ${written} could be ${matches.map(({ text }) => text).join(' or ')}.`)
    return null
  }

  function columnOf(table: Table, name: string): Column | null {
    const column = find(table, name)
    if (column === null) problems.push(`key: ${table.text} has no column ${name}.`)
    return column
  }
}

/** Whether all rows of the table have a value there. */
export function isAlwaysSet(table: Table, columns: readonly string[]): boolean {
  return columns.every((name) => find(table, name)?.notNull === true)
}

export function columnsOf(table: Table): Column[] {
  return table.columns.filter(({ isGenerated }) => !isGenerated)
}

/** Those that lead nearest to a tenant first; none after one that is never null. */
function decidingKeys(table: Table, keys: readonly ForeignKey[], distances: ReadonlyMap<number, number>): ForeignKey[] {
  const sorted = keys
    .filter(({ parent }) => distances.has(parent))
    .toSorted(
      (a, b) =>
        distances.get(a.parent)! - distances.get(b.parent)! ||
        Number(isAlwaysSet(table, b.columns)) - Number(isAlwaysSet(table, a.columns)),
    )
  const last = sorted.findIndex(({ columns }) => isAlwaysSet(table, columns))
  return last < 0 ? sorted : sorted.slice(0, last + 1)
}

function findCircles(owned: readonly OwnedTable[]): void {
  const byOid = new Map(owned.map((one) => [one.table.oid, one]))
  const parents = ({ by }: OwnedTable) => (by.kind === 'keys' ? by.keys.map(({ parent }) => byOid.get(parent)!) : [])
  for (const component of components(owned, parents)) {
    const isCircle = component.length > 1 || parents(component[0]!).includes(component[0]!)
    if (isCircle) for (const one of component) one.circle = component.map(({ table }) => table.oid)
  }
}

function findReferences(
  owned: readonly OwnedTable[],
  tables: ReadonlyMap<number, Table>,
  keys: readonly ForeignKey[],
): ReferenceTable[] {
  const ownedBy = new Map(owned.map((one) => [one.table.oid, one]))
  const found = new Map<number, ReferenceTable>()
  const reach = (child: number, from: OwnedTable | null): void => {
    for (const key of keys) {
      if (key.child !== child || (from !== null && isDecidingAlone(key, from))) continue
      const target = ownedBy.get(key.parent) ?? null
      if (target !== null && !hasNobodysRows(target)) continue
      const known = found.get(key.parent)
      if (known) {
        if (!known.from.some((one) => one.key === key && one.owned === from)) known.from.push({ key, owned: from })
        continue
      }
      const table = tables.get(key.parent)!
      found.set(key.parent, { table, nobody: target, from: [{ key, owned: from }], circle: [] })
      reach(key.parent, null)
    }
  }
  for (const one of owned) reach(one.table.oid, one)
  const references = [...found.values()]
  const sources = ({ from }: ReferenceTable) =>
    from.flatMap(({ key, owned: source }) => (source === null ? [found.get(key.child)!] : []))
  const sorted = components(references, sources)
  for (const component of sorted) {
    const isCircle = component.length > 1 || sources(component[0]!).includes(component[0]!)
    if (isCircle) for (const one of component) one.circle = component.map(({ table }) => table.oid)
  }
  return sorted.flat().toReversed()
}

/** Then what it refers to is of the same tenant. */
function isDecidingAlone(key: ForeignKey, { table, by }: OwnedTable): boolean {
  return by.kind === 'keys' && by.keys[0] === key && isAlwaysSet(table, key.columns)
}

function hasNobodysRows({ table, by }: OwnedTable): boolean {
  if (by.kind === 'column') return !by.column.notNull
  return by.keys.every(({ columns }) => !isAlwaysSet(table, columns))
}

function canCross(key: ForeignKey, owned: readonly OwnedTable[], references: readonly ReferenceTable[]): boolean {
  if (!owned.some(({ table }) => table.oid === key.parent)) return false
  if (references.some(({ table }) => table.oid === key.child)) return true
  const child = owned.find(({ table }) => table.oid === key.child)
  return child !== undefined && !isDecidingAlone(key, child)
}

function find(table: Table, name: string): Column | null {
  return table.columns.find((column) => column.name === name) ?? null
}

function sameColumns({ columns }: ForeignKey, wanted: readonly string[]): boolean {
  return columns.length === wanted.length && columns.every((name) => wanted.includes(name))
}
