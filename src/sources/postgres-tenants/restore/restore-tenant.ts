import { createHash } from 'node:crypto'
import type pg from 'pg'
import { isRegainError, RegainError, throwIfInterrupted } from '../../../errors.ts'
import type { Entry } from '../../../model.ts'
import type { PartsRestore, PartsSummary, PartsTarget, PointReader, SourceOptions } from '../../contract.ts'
import { describeTarget, parseTargetUrl } from '../../postgres/parts/target-database.ts'
import { withSql } from '../../postgres/protocol/connection.ts'
import type { ConnectionConfig } from '../../postgres/protocol/connection-url.ts'
import { copyIn } from '../../postgres/protocol/copy.ts'
import { copyRows, copyStatement } from '../copy-rows.ts'
import { type DescribedTable, nameOf, readDescription, type TenantDescription } from '../description.ts'
import { listOf, stageOf } from '../load-script.ts'
import type { TenantRules } from '../rules.ts'
import { settle } from '../session.ts'
import { readChanges, refuseOtherChanges, refuseOtherRules, refuseToHurtOthers } from './others.ts'
import { readTarget, type Target } from './target.ts'
import { findTriggers, holdBack } from './triggers.ts'
import { advanceSequences, writeRows } from './write-rows.ts'

/** One tenant into a database that has its tables: nothing of another tenant is read or changed. */
export function createTenantRestore(rules: TenantRules): PartsRestore {
  return {
    plan: async (_point, target, { signal }, open) => {
      const config = targetOf(target)
      const reader = await open()
      const description = await readDescription(reader)
      return withSql(config, signal, async (client) => {
        await settle(client)
        const where = describeTarget(config)
        const found = await readTarget(client, description, where)
        refuseExisting(found, target, where)
        if (target.overwrite) await refuseOtherRules(client, found, description, rules)
        return stepsOf(description, found, target, where, await findTriggers(client, found.pairs))
      })
    },
    restore: (reader, target, options) => restoreTenant(reader, target, options, rules),
  }
}

function targetOf({ to, selection }: PartsTarget): ConnectionConfig {
  if (selection.database !== null || selection.schema !== null || selection.tables.length > 0)
    throw new RegainError('usage', '--table, --schema and --database do not go with tenants. Nothing was done.', {
      hint: 'A tenant is restored whole: leave them out.',
    })
  if (!/^postgres(ql)?:\/\//.test(to))
    throw new RegainError('usage', 'A tenant is restored into a database or a directory. Nothing was done.')
  return parseTargetUrl(to)
}

/** What is there stays, unless its being replaced was asked for. */
function refuseExisting({ existing }: Pick<Target, 'existing'>, { overwrite }: PartsTarget, where: string): void {
  if (existing.size === 0 || overwrite) return
  const counts = [...existing.values()].map(({ table, rows }) => `${rows} in ${table.text}`)
  throw new RegainError(
    'target-not-empty',
    `${where} has rows of this tenant: ${counts.join(', ')}. Nothing was changed.`,
    { hint: 'To replace them by those of the point, name the tenant once more: --overwrite TENANT' },
  )
}

function stepsOf(
  { tables, at, crossings }: TenantDescription,
  { existing, differences, pairs }: Target,
  { overwrite }: PartsTarget,
  where: string,
  triggers: Awaited<ReturnType<typeof findTriggers>>,
): string[] {
  const held = triggers.filter(({ isOurs }) => isOurs)
  const running = triggers.filter(({ isOurs }) => !isOurs)
  const nameTriggers = (list: typeof triggers) => list.map(({ table, name }) => `${name} of ${table}`).join(', ')
  const rowsThere = (table: DescribedTable): number => {
    const pair = pairs.find(({ from }) => from === table)
    return pair === undefined ? 0 : (existing.get(pair.to.oid)?.rows ?? 0)
  }
  const owned = tables.filter((table) => table.role === 'owned' && (table.rows > 0 || rowsThere(table) > 0))
  const references = tables.filter(({ role, rows }) => role === 'reference' && rows > 0)
  return [
    `connect to ${where}, and do all that follows in one transaction: all of it, or nothing`,
    ...owned.map((table) =>
      rowsThere(table) > 0
        ? `REPLACE ${rowsThere(table)} rows of this tenant in ${nameOf(table)} by the ${table.rows} of ${at}`
        : `write ${table.rows} rows into ${nameOf(table)}, as of ${at}`,
    ),
    ...references.map(
      (table) => `write those of ${table.rows} rows into ${nameOf(table)} that are missing there, and leave the others`,
    ),
    ...(overwrite
      ? ['let nobody else write to these tables while that is done, and refuse to change or delete any row of others']
      : []),
    ...(held.length > 0 ? [`hold back triggers for that long: ${nameTriggers(held)}`] : []),
    'read the tenant back and compare each table with the point, byte by byte; take everything back if one differs',
    ...[
      ...differences,
      ...(running.length > 0
        ? [`triggers run, because their tables are not the role's: ${nameTriggers(running)}`]
        : []),
      ...crossings.map(
        ({ table, rows, to }) =>
          `${rows} rows of ${table} refer to rows of other tenants in ${to}, which must be there`,
      ),
    ].map((note) => `know that: ${note}`),
  ]
}

async function restoreTenant(
  reader: PointReader,
  target: PartsTarget,
  options: SourceOptions,
  rules: TenantRules,
): Promise<PartsSummary> {
  const config = targetOf(target)
  const where = describeTarget(config)
  const description = await readDescription(reader)
  return withSql(config, options.signal, async (client) => {
    const encoding = await settle(client)
    if (encoding !== description.encoding)
      options.warn(`The texts of the point are ${description.encoding}, and those of ${where} are ${encoding}.`)
    await client.query(`set client_encoding = ${description.encoding}; begin isolation level read committed read write`)
    try {
      const bytes = await carryOut(client, reader, description, target, options, rules, where)
      await client.query('commit')
      return {
        bytes,
        files: 0,
        missed: [],
        target: where,
        database: config.database,
        tables: description.tables.filter(({ rows }) => rows > 0).map(nameOf),
        reached: description.at,
      }
    } catch (error) {
      // A connection that broke has taken everything back by itself.
      await client.query('rollback').catch(() => undefined)
      throw explained(error, where)
    }
  })
}

async function carryOut(
  client: pg.Client,
  reader: PointReader,
  description: TenantDescription,
  request: PartsTarget,
  options: SourceOptions,
  rules: TenantRules,
  where: string,
): Promise<number> {
  const target = await readTarget(client, description, where)
  refuseExisting(target, request, where)
  const bytes = await stageRows(client, reader, description, target, options)
  const triggers = await findTriggers(client, target.pairs)
  const overwrite = request.overwrite === true
  if (overwrite) {
    await refuseToHurtOthers(client, target)
    await refuseOtherRules(client, target, description, rules)
  }
  const held = await holdBack(client, triggers)
  const before = await readChanges(client)
  const written = await writeRows(client, target, overwrite)
  await client.query('set constraints all immediate')
  await held.release()
  await refuseOtherChanges(client, before, written)
  throwIfInterrupted(options.signal)
  await compare(client, description, target)
  await advanceSequences(client, target)
  return bytes
}

/** Into tables of this transaction's own, so that nothing is locked meanwhile, and bad data changes nothing. */
async function stageRows(
  client: pg.Client,
  reader: PointReader,
  { tables }: TenantDescription,
  { pairs }: Target,
  options: SourceOptions,
): Promise<number> {
  const bytesTotal = tables.reduce((sum, { bytes }) => sum + bytes, 0)
  let bytesDone = 0
  const contents = new Contents(reader, new Set(pairs.map(({ from }) => from.file)))
  try {
    const indexOf = new Map(pairs.map(({ from }, index) => [from.file, index]))
    for (const [index, { from, to }] of pairs.entries()) {
      const names = listOf(from)
      await client.query(
        `create temp table ${stageOf(index)} on commit drop as select ${names} from only ${to.text} with no data`,
      )
    }
    for (;;) {
      throwIfInterrupted(options.signal)
      const entry = await contents.next()
      if (entry === null) break
      const index = indexOf.get(entry.path)!
      const { from } = pairs[index]!
      const hash = createHash('sha256')
      const pieces = (async function* () {
        for await (const piece of contents.pieces()) {
          hash.update(piece)
          bytesDone += piece.length
          options.progress({ phase: 'restore', bytesDone, bytesTotal })
          yield piece
        }
      })()
      await copyIn(client, `copy pg_temp.${stageOf(index)} (${listOf(from)}) from stdin`, pieces)
      if (hash.digest('hex') !== from.sha256)
        throw new RegainError('repository-damaged', `${from.file} of the point is not what tenant.json says it is.`)
      indexOf.delete(entry.path)
    }
    const [missing] = indexOf.keys()
    if (missing !== undefined)
      throw new RegainError('repository-damaged', `The point lacks ${missing}, which tenant.json names.`)
    for (const index of pairs.keys()) await client.query(`analyze pg_temp.${stageOf(index)}`)
  } finally {
    await contents.close()
  }
  return bytesDone
}

/** Files of the point, one after the other, each in pieces. */
class Contents {
  readonly #all: AsyncIterator<{ entry: Entry; bytes: Buffer | null }>
  #next: { entry: Entry; bytes: Buffer | null } | null = null

  constructor(reader: PointReader, wanted: ReadonlySet<string>) {
    const isWanted = ({ path }: Entry) => wanted.has(path)
    const some = async function* () {
      for await (const entry of reader.entries()) if (isWanted(entry)) yield entry
    }
    this.#all = reader.contents(some(), isWanted)
  }

  /** The next file, after all pieces of the one before it. */
  async next(): Promise<Entry | null> {
    const step = await this.#all.next()
    this.#next = step.done ? null : step.value
    return this.#next?.entry ?? null
  }

  async *pieces(): AsyncGenerator<Buffer> {
    for (let at = this.#next; at !== null && at.bytes !== null; ) {
      yield at.bytes
      const step = await this.#all.next()
      at = step.done ? null : step.value
    }
  }

  async close(): Promise<void> {
    await this.#all.return?.()
  }
}

/** By the rules of the point, in the database as it is now: what is not there byte by byte was not brought back. */
async function compare(client: pg.Client, { tables }: TenantDescription, target: Target): Promise<void> {
  const different: string[] = []
  for (const from of tables) {
    if (from.role !== 'owned') continue
    const pair = target.pairs.find((one) => one.from === from)
    if (pair === undefined) continue
    const statement = copyStatement(from.columns, from.key, pair.to, (select) =>
      target.queries.owned(pair.to.oid, select),
    )
    const copied = await copyRows(client, statement, async () => undefined)
    if (copied.sha256 !== from.sha256)
      different.push(`${nameOf(from)} (${copied.rows} rows, ${from.rows} in the point)`)
  }
  if (different.length === 0) return
  throw new RegainError(
    'verification-failed',
    `What was written is not what the point holds, in ${different.join(', ')}: a trigger, another type of a column or other keys there made the difference. Everything was taken back.`,
    {
      hint: 'See what regain restore --preview says of triggers and columns; or restore into a database as it was then.',
    },
  )
}

const HINTS: Record<string, string> = {
  // unique_violation
  '23505':
    'A row of somebody else has the same key there, or rows of the tenant have changed places in a unique key since. Restore into another database, or change or delete those rows first.',
  // feature_not_supported
  '0A000': 'If a rule (CREATE RULE) stands in the way: restore into a database without it.',
  // foreign_key_violation
  '23503':
    'What the rows refer to is not there: it is of another tenant, or of a table that was left out. Bring that back first.',
  '42501':
    'The role needs to read and write all tables of the tenant, to use their sequences, and to make temporary tables (GRANT TEMPORARY).',
  '40P01': 'Somebody wrote to the same tables in another order. Try again.',
  '55P03': 'A table was locked by somebody else for too long. Try again when it is free.',
}

function explained(error: unknown, where: string): unknown {
  if (isRegainError(error)) return error
  const { code, message, detail } = error as { code?: string; message?: string; detail?: string }
  if (code === undefined || !/^(0A|22|23|40|42|55)/.test(code)) return error
  const hint =
    HINTS[code] ?? 'Bring the definitions there to where they were, or restore into a directory and adapt the files.'
  // A detail names keys, which are what is to be looked for.
  return new RegainError(
    'precondition-failed',
    `${where}: ${message}.${detail === undefined ? '' : ` ${detail}`} Everything was taken back.`,
    { hint, cause: error },
  )
}
