import { createHash } from 'node:crypto'
import type pg from 'pg'
import { throwIfInterrupted } from '../../errors.ts'
import type { Entry } from '../../model.ts'
import type { BackupOptions, PointWriter } from '../contract.ts'
import type { Table } from './catalog.ts'
import { copyRows, copyStatement } from './copy-rows.ts'
import { DESCRIPTION_PATH, type DescribedTable, type TenantDescription } from './description.ts'
import { HOW_TO, HOW_TO_PATH, LOAD_PATH, loadScript } from './load-script.ts'
import { columnsOf } from './plan.ts'
import { TenantQueries } from './queries.ts'
import type { TenantRules } from './rules.ts'
import type { Encoding, TenantSnapshot } from './session.ts'

export interface ExportOf {
  client: pg.Client
  snapshot: TenantSnapshot
  rules: TenantRules
  tenant: string
  version: string
  database: string
  encoding: Encoding
}

/** Writes all of one tenant at the snapshot's moment: a file for each table, what they are, and how to load them with psql. */
export async function exportTenant(
  of: ExportOf,
  writer: PointWriter,
  options: Pick<BackupOptions, 'signal'>,
  written: (bytes: number) => void,
): Promise<TenantDescription> {
  const { client, snapshot, tenant } = of
  const { owned, references, crossings } = snapshot.plan
  const queries = new TenantQueries(snapshot.plan, tenant)
  const entry = (path: string, type: 'file' | 'directory'): Entry => ({
    path,
    type,
    mode: type === 'file' ? 0o600 : 0o700,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    mtime: `${Date.parse(snapshot.time)}000000`,
  })
  const addText = async (path: string, text: string): Promise<void> => {
    const stream = await writer.addStream(entry(path, 'file'), 'dump')
    await stream.write(Buffer.from(text))
    await stream.end()
  }
  const tables: DescribedTable[] = []
  const copyTable = async (table: Table, role: DescribedTable['role']): Promise<void> => {
    throwIfInterrupted(options.signal)
    const columns = columnsOf(table)
    // A key may have a generated column, which is not copied.
    const key = table.key?.every((name) => columns.some((column) => column.name === name)) ? table.key : null
    const statement = copyStatement(columns, key, table, (select) =>
      role === 'owned' ? queries.owned(table.oid, select) : queries.references(table.oid, select),
    )
    const file = `${role}/${fileOf(table)}`
    const stream = await writer.addStream(entry(file, 'file'), 'dump')
    const copied = await copyRows(client, statement, async (bytes) => {
      await stream.write(bytes)
      written(bytes.length)
    })
    await stream.end()
    const described = columns.map(({ name, type }) => ({ name, type }))
    tables.push({ schema: table.schema, name: table.name, role, file, columns: described, key, ...copied })
  }
  await writer.add(entry('', 'directory'))
  await writer.add(entry('owned', 'directory'))
  await writer.add(entry('reference', 'directory'))
  for (const { table } of owned) await copyTable(table, 'owned')
  for (const { table } of references) await copyTable(table, 'reference')
  const description: TenantDescription = {
    regain: 'tenant',
    format: 1,
    tenant,
    at: snapshot.time,
    version: of.version,
    database: of.database,
    encoding: of.encoding,
    rules: of.rules,
    tables,
    crossings: await countCrossings(),
  }
  await addText(DESCRIPTION_PATH, `${JSON.stringify(description, null, 1)}\n`)
  await addText(LOAD_PATH, loadScript(description))
  await addText(HOW_TO_PATH, HOW_TO)
  return description

  async function countCrossings(): Promise<TenantDescription['crossings']> {
    const byOid = new Map(snapshot.catalog.tables.map((table) => [table.oid, table]))
    const filled = new Set(
      tables.filter(({ rows }) => rows > 0).map(({ schema, name }) => JSON.stringify([schema, name])),
    )
    const counted: TenantDescription['crossings'] = []
    for (const key of crossings) {
      throwIfInterrupted(options.signal)
      const [child, parent] = [byOid.get(key.child)!, byOid.get(key.parent)!]
      if (!filled.has(JSON.stringify([child.schema, child.name]))) continue
      const { rows } = await client.query<{ rows: number }>(queries.crossings(key))
      const [found] = rows
      if (found && found.rows > 0) counted.push({ table: child.text, key: key.name, to: parent.text, rows: found.rows })
    }
    return counted
  }
}

const MAX_NAME_BYTES = 180

/** What is no letter, digit, `_`, `-` or `.` is %XX of its bytes. Names of the server are short enough to be told apart. */
function fileOf({ schema, name }: Table): string {
  const text = [...Buffer.from(`${schema}/${name}`)]
    .map((byte) => {
      const character = String.fromCharCode(byte)
      if (character === '/') return '.'
      return /[A-Za-z0-9_-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
    })
    .join('')
  return `${text.length <= MAX_NAME_BYTES ? text : shortened(schema, name)}.copy`
}

function shortened(schema: string, name: string): string {
  return createHash('sha256').update(`${schema}\0${name}`).digest('hex')
}
