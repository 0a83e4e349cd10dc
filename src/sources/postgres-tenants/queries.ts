import { quoteIdentifier, quoteLiteral } from '../postgres/protocol/connection-errors.ts'
import type { Column, ForeignKey, Table } from './catalog.ts'
import type { OwnedTable, ReferenceTable, TenantPlan } from './plan.ts'

/** Columns of the row called `row`, as they stand after SELECT. */
type Select = (row: string) => string

/**
 * The plan as SQL, for one tenant. Sets of rows are queries, not lists: nothing of them is held here, or written there, so
 * that they can be read in a read-only transaction and on a standby. Tables in a circle are a recursive query over places
 * of rows (tableoid and ctid), which do not change within a snapshot. All of it asks for `search_path = pg_catalog`.
 */
export class TenantQueries {
  readonly #tenant: string
  readonly #root: Column
  readonly #owned: Map<number, OwnedTable>
  readonly #references: Map<number, ReferenceTable>

  constructor(plan: TenantPlan, tenant: string) {
    this.#tenant = tenant
    this.#root = plan.root.by.column
    this.#owned = new Map(plan.owned.map((one) => [one.table.oid, one]))
    this.#references = new Map(plan.references.map((one) => [one.table.oid, one]))
  }

  /** Its rows of a table. */
  owned(oid: number, select: Select): string {
    const statement = new Statement()
    return statement.around(this.#ownedRows(statement, this.#owned.get(oid)!, select))
  }

  /** Rows of nobody that its rows need to be there. */
  references(oid: number, select: Select): string {
    const statement = new Statement()
    return statement.around(this.#referenceRows(statement, this.#references.get(oid)!, select))
  }

  /** How many of its rows refer by this key to what is another tenant's. */
  crossings(key: ForeignKey): string {
    const statement = new Statement()
    const parent = this.#owned.get(key.parent)!
    const select: Select = (row) => columnList(key.columns, row, 'k')
    const own = this.#owned.get(key.child)
    const sets = [
      ...(own ? [this.#ownedRows(statement, own, select)] : []),
      ...(this.#references.has(key.child)
        ? [this.#referenceRows(statement, this.#references.get(key.child)!, select)]
        : []),
    ]
    const matches = (row: string) =>
      key.parentColumns.map((name, i) => `${row}.${quoteIdentifier(name)} ${key.operators[i]} a.k${i}`).join(' and ')
    const isKnown = [
      `exists (select from (${this.#ownedRows(statement, parent, (row) => parentColumns(key, row))}) p where ${matches('p')})`,
      ...(this.#references.has(key.parent)
        ? [`exists (select from ${from(parent.table)} p where ${isNobodys(parent, 'p')} and ${matches('p')})`]
        : []),
    ]
    const isSet = key.columns.map((_, i) => `a.k${i} is not null`).join(' and ')
    const rows = `select from (${sets.join(' union all ')}) a where ${isSet} and not (${isKnown.join(' or ')})`
    return statement.around(`select count(*)::int8::float8 as rows from (${rows}) crossing`)
  }

  #ownedRows(statement: Statement, one: OwnedTable, select: Select): string {
    const { table, by } = one
    if (by.kind === 'column')
      return `select ${select('a')} from ${from(table)} a where ${isTenant('a', by.column, this.#tenant, this.#root)}`
    if (one.circle.length > 0) return byPlace(table, this.#ownedCircle(statement, one), select)
    return by.keys.map((key, i) => this.#branch(statement, one, key, i, select)).join(' union all ')
  }

  /** Rows of which the deciding key at `index` is the first that is not null, and leads to the tenant. */
  #branch(statement: Statement, { table, by }: OwnedTable, key: ForeignKey, index: number, select: Select): string {
    const earlier =
      by.kind === 'keys' ? by.keys.slice(0, index).map(({ columns }) => `${isNull(columns, 'a')} and `) : []
    const parents = this.#ownedRows(statement, this.#owned.get(key.parent)!, (row) => parentColumns(key, row))
    return `select ${select('a')} from ${from(table)} a where ${earlier.join('')}exists (select from (${parents}) p where ${joins(key, 'p', 'a')})`
  }

  /** The name of the query that has the places of all rows in the circle, and the table's number in it. */
  #ownedCircle(statement: Statement, { circle, table }: OwnedTable): Place {
    const members = circle.map((oid) => this.#owned.get(oid)!)
    const name = statement.recursive(`owned ${circle.join(' ')}`, () => {
      const first: string[] = []
      const next: string[] = []
      for (const [number, member] of members.entries()) {
        const { by } = member
        if (by.kind !== 'keys') continue
        for (const [i, key] of by.keys.entries()) {
          const parent = circle.indexOf(key.parent)
          if (parent < 0) first.push(this.#branch(statement, member, key, i, (row) => placeOf(row, number)))
          else {
            const earlier = by.keys.slice(0, i).map(({ columns }) => ` and ${isNull(columns, 'a')}`)
            next.push(
              `select ${placeOf('a', number)} from known join ${from(members[parent]!.table)} p on ${isAt('p', parent)} join ${from(member.table)} a on ${joins(key, 'p', 'a')}${earlier.join('')}`,
            )
          }
        }
      }
      return { first, next }
    })
    return { name, number: circle.indexOf(table.oid) }
  }

  #referenceRows(statement: Statement, one: ReferenceTable, select: Select): string {
    if (one.circle.length > 0) return byPlace(one.table, this.#referenceCircle(statement, one), select)
    return `select ${select('a')} from ${from(one.table)} a where ${this.#isReferredTo(statement, one)}`
  }

  /** By rows of tenants, or by references outside of its circle. */
  #isReferredTo(statement: Statement, { nobody, from: sources, circle }: ReferenceTable): string {
    const outer = sources.filter(({ key, owned }) => owned !== null || !circle.includes(key.child))
    const byColumns = Map.groupBy(outer, ({ key }) => JSON.stringify([key.parentColumns, key.operators]))
    const conditions = [...byColumns.values()].map((group) => {
      const sets = group.map(({ key, owned }) => {
        const columns: Select = (row) => columnList(key.columns, row, 'k')
        return owned
          ? this.#ownedRows(statement, owned, columns)
          : this.#referenceRows(statement, this.#references.get(key.child)!, columns)
      })
      const { parentColumns: names, operators } = group[0]!.key
      const match = names.map((name, i) => `a.${quoteIdentifier(name)} ${operators[i]} u.k${i}`)
      return `exists (select from (${sets.join(' union all ')}) u where ${match.join(' and ')})`
    })
    const some = conditions.length === 0 ? 'false' : `(${conditions.join(' or ')})`
    return nobody === null ? some : `${isNobodys(nobody, 'a')} and ${some}`
  }

  #referenceCircle(statement: Statement, { circle, table }: ReferenceTable): Place {
    const members = circle.map((oid) => this.#references.get(oid)!)
    const name = statement.recursive(`references ${circle.join(' ')}`, () => {
      const first = members.map(
        (member, number) =>
          `select ${placeOf('a', number)} from ${from(member.table)} a where ${this.#isReferredTo(statement, member)}`,
      )
      const next = members.flatMap((member, number) =>
        member.from.flatMap(({ key, owned }) => {
          const child = circle.indexOf(key.child)
          if (owned !== null || child < 0) return []
          const isEligible = member.nobody === null ? '' : ` and ${isNobodys(member.nobody, 'a')}`
          return `select ${placeOf('a', number)} from known join ${from(members[child]!.table)} c on ${isAt('c', child)} join ${from(member.table)} a on ${joins(key, 'a', 'c')}${isEligible}`
        }),
      )
      return { first, next }
    })
    return { name, number: circle.indexOf(table.oid) }
  }
}

interface Place {
  name: string
  number: number
}

/** Collects the recursive queries that a statement needs, each once, in front of what asks for them. */
class Statement {
  readonly #parts: string[] = []
  readonly #names = new Map<string, string>()

  /** What comes first, and what each step adds to the rows `known` that the one before it added. */
  recursive(of: string, make: () => { first: string[]; next: string[] }): string {
    const known = this.#names.get(of)
    if (known !== undefined) return known
    const { first, next } = make()
    const name = `circle_${this.#names.size}`
    this.#names.set(of, name)
    // A recursive query may name itself once only: `known` is that once.
    this.#parts.push(
      `${name} (number, relation, place) as ((${first.join(' union all ')}) union (with known as (select * from ${name}) ${next.join(' union all ')}))`,
    )
    return name
  }

  around(query: string): string {
    return this.#parts.length === 0 ? query : `with recursive ${this.#parts.join(', ')} ${query}`
  }
}

/** tid has no hash before PostgreSQL 14, which a recursive UNION needs: so it is text on the way. */
function placeOf(row: string, number: number): string {
  return `${number} as number, ${row}.tableoid as relation, ${row}.ctid::text as place`
}

function isAt(row: string, number: number): string {
  return `known.number = ${number} and ${row}.tableoid = known.relation and ${row}.ctid = known.place::tid`
}

function byPlace(table: Table, { name, number }: Place, select: Select): string {
  const places = `select relation, place::tid as place from ${name} where number = ${number}`
  return `select ${select('a')} from (${places}) at join ${from(table)} a on a.tableoid = at.relation and a.ctid = at.place`
}

/** Children by inheritance are tables of their own; partitions are not. */
export function from({ text, isPartitioned }: Table): string {
  return isPartitioned ? text : `only ${text}`
}

/**
 * `root` is the column that names the tenants. A column that takes other values for equal than that one does would give one row
 * to several of them (to '1' and '01', where it is a number and they are texts): then texts are compared, letter by letter.
 */
export function isTenant(row: string, column: Column, tenant: string, root: Column): string {
  const value = `${row}.${quoteIdentifier(column.name)}`
  if (!hasSameEquality(column, root)) return `${value}::text collate "C" operator(pg_catalog.=) ${quoteLiteral(tenant)}`
  return `${value} ${column.equals} ${quoteLiteral(tenant)}::${root.baseType}`
}

const ALIKE = [
  ['smallint', 'integer', 'bigint'],
  ['text', 'character varying'],
]

function hasSameEquality(one: Column, other: Column): boolean {
  if (one.looseCollation !== other.looseCollation) return false
  return (
    [one, other].every(({ baseType }) => baseType === one.baseType) ||
    ALIKE.some((types) => [one, other].every(({ baseType }) => types.includes(baseType)))
  )
}

/** Nothing of the row leads to a tenant. */
function isNobodys({ by }: OwnedTable, row: string): string {
  if (by.kind === 'column') return `${row}.${quoteIdentifier(by.column.name)} is null`
  return by.keys.map(({ columns }) => isNull(columns, row)).join(' and ')
}

/** A key of several columns refers to nothing if one of them is null (MATCH SIMPLE; under MATCH FULL all are). */
function isNull(columns: readonly string[], row: string): string {
  return `(${columns.map((name) => `${row}.${quoteIdentifier(name)} is null`).join(' or ')})`
}

function joins({ columns, parentColumns: parents, operators }: ForeignKey, parent: string, child: string): string {
  return parents
    .map((name, i) => `${parent}.${quoteIdentifier(name)} ${operators[i]} ${child}.${quoteIdentifier(columns[i]!)}`)
    .join(' and ')
}

function parentColumns({ parentColumns: names }: ForeignKey, row: string): string {
  return names.map((name) => `${row}.${quoteIdentifier(name)}`).join(', ')
}

function columnList(names: readonly string[], row: string, prefix: string): string {
  return names.map((name, i) => `${row}.${quoteIdentifier(name)} as ${prefix}${i}`).join(', ')
}
