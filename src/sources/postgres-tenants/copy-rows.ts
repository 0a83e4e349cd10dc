import { createHash } from 'node:crypto'
import type pg from 'pg'
import { quoteIdentifier } from '../postgres/protocol/connection-errors.ts'
import { copyOut } from '../postgres/protocol/copy.ts'
import type { Column, Table } from './catalog.ts'

export interface CopiedRows {
  rows: number
  bytes: number
  sha256: string
}

/**
 * The same rows give the same bytes, on every server and whenever: sorted by what tells them apart, and texts by their bytes, not by a
 * locale. So they are stored once, and one digest compares them.
 */
export function copyStatement(
  columns: readonly Pick<Column, 'name'>[],
  key: readonly string[] | null,
  table: Table,
  set: (select: (row: string) => string) => string,
): string {
  const names = columns.map(({ name }) => quoteIdentifier(name))
  const isCollatable = (name: string) => table.columns.find((column) => column.name === name)?.isCollatable === true
  const order =
    key === null
      ? `row(${names.map((name) => `r.${name}`).join(', ')})::text collate "C"`
      : key.map((name) => `r.${quoteIdentifier(name)}${isCollatable(name) ? ' collate "C"' : ''}`).join(', ')
  const rows = set((row) => names.map((name) => `${row}.${name}`).join(', '))
  return `copy (select ${names.map((name) => `r.${name}`).join(', ')} from (${rows}) r order by ${order}) to stdout`
}

/** Runs it; `take` gets the bytes. */
export async function copyRows(
  client: pg.Client,
  statement: string,
  take: (bytes: Buffer) => Promise<void>,
): Promise<CopiedRows> {
  const hash = createHash('sha256')
  const copied = { rows: 0, bytes: 0 }
  await copyOut(client, statement, async (bytes) => {
    hash.update(bytes)
    copied.bytes += bytes.length
    copied.rows += countLines(bytes)
    await take(bytes)
  })
  return { ...copied, sha256: hash.digest('hex') }
}

/** In COPY's text format a row is a line: ends of lines within values are written as \\n. */
function countLines(bytes: Buffer): number {
  let lines = 0
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines++
  return lines
}
