import type pg from 'pg'
import { quoteIdentifier } from '../../postgres/protocol/connection-errors.ts'

/** What pg_dumpall's globals say, as far as a restore acts on it. */
export interface Globals {
  roles: { name: string; statements: string[] }[]
  /** Memberships, settings and comments that name roles. */
  others: { statement: string; role: string }[]
  tablespaces: string[]
}

const NAME = '("(?:[^"]|"")+"|[^\\s";]+)'
const ROLE = new RegExp(`^(?:CREATE ROLE|ALTER ROLE) ${NAME}`, 'i')
const COMMENT = new RegExp(`^COMMENT ON ROLE ${NAME}`, 'i')
const MEMBER = new RegExp(`^GRANT ${NAME} TO ${NAME}`, 'i')
const PARAMETER = new RegExp(`^GRANT .* ON PARAMETER .* TO ${NAME}`, 'i')
const TABLESPACE = new RegExp(`^CREATE TABLESPACE ${NAME}`, 'i')

export function parseGlobals(sql: string): Globals {
  const globals: Globals = { roles: [], others: [], tablespaces: [] }
  for (const statement of statementsOf(sql)) {
    const role = (ROLE.exec(statement) ?? COMMENT.exec(statement))?.[1]
    const member = MEMBER.exec(statement)?.[2] ?? PARAMETER.exec(statement)?.[1]
    const tablespace = TABLESPACE.exec(statement)?.[1]
    if (tablespace !== undefined) globals.tablespaces.push(unquote(tablespace))
    else if (member !== undefined) globals.others.push({ statement, role: unquote(member) })
    else if (role !== undefined) {
      const name = unquote(role)
      const known = globals.roles.find((one) => one.name === name)
      if (known) known.statements.push(statement)
      else globals.roles.push({ name, statements: [statement] })
    }
  }
  return globals
}

/** Statements, without comments and without commands of psql. */
export function statementsOf(sql: string): string[] {
  const statements: string[] = []
  let statement = ''
  // A text in quotes (with backslashes if E comes before), a name in quotes, a comment, a line for psql, or one character.
  const token = /[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|^\\[^\n]*|[\s\S]/gmy
  for (const [text] of sql.matchAll(token)) {
    if (text.startsWith('--') || (text.startsWith('\\') && text.length > 1)) continue
    if (text !== ';') statement += text
    else {
      statements.push(statement.trim())
      statement = ''
    }
  }
  return statements.filter((one) => one !== '')
}

/**
 * Makes the roles that are not there, with their attributes, passwords, settings and memberships. Those that are there stay
 * as they are. One transaction: all of them, or none. Gives the names of those that were made.
 */
export async function makeRoles(client: pg.Client, globals: Globals): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>('select rolname as name from pg_catalog.pg_roles')
  const there = new Set(rows.map(({ name }) => name))
  const missing = globals.roles.filter(({ name }) => !there.has(name))
  const made = new Set(missing.map(({ name }) => name))
  await client.query('begin')
  try {
    for (const { statements } of missing) for (const statement of statements) await client.query(statement)
    for (const { statement, role } of globals.others) if (made.has(role)) await client.query(withoutGrantor(statement))
    await client.query('commit')
  } catch (error) {
    await client.query('rollback')
    throw error
  }
  return [...made]
}

/** Who granted a membership need not be there, nor may we always speak for him. */
function withoutGrantor(statement: string): string {
  return statement.replace(/ GRANTED BY ("(?:[^"]|"")+"|[^\s";]+)$/i, '')
}

/** What a restore that failed made; databases that they own must be gone. */
export async function removeRoles(client: pg.Client, names: readonly string[]): Promise<void> {
  for (const name of names) await client.query(`drop role if exists ${quoteIdentifier(name)}`)
}

export async function missingTablespaces(client: pg.Client, names: readonly string[]): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>('select spcname as name from pg_catalog.pg_tablespace')
  return names.filter((name) => !rows.some((row) => row.name === name))
}

export function unquote(text: string): string {
  return text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text
}
