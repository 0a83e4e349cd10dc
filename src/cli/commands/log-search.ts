import { RegainError } from '../../errors.ts'
import type { LoggedLoss } from '../../operations/context.ts'
import type { LogSearchOutcome } from '../../operations/search-log.ts'
import type { Register, Session } from '../cli.ts'
import { count, formatTime, printable } from '../format.ts'

const EXAMPLES = `
Tells when a table was dropped or truncated, or many of its rows were deleted, by which transaction, and what to write
after --at of a restore to get it back. It reads points and log in the repository; the database need not be there.
Only what was committed is told. WHEN is a time with its zone or lsn:16/B374D848. Names are compared exactly: PostgreSQL
keeps them in lower case unless they were quoted. A partitioned table's rows are those of its partitions.

The --at that is printed is the last record before the commit (of DROP DATABASE: before its files went): everything
that was committed until then comes back, and the transaction does not. Moments are inclusive: xid: and lsn: of the
transaction itself, and its time, would bring it back with what it did.

Examples:
  regain log search shop/db --table orders
  regain log search shop/db --table sales.orders --rows 1 --from 2026-11-20T00:00:00Z
  regain log search shop/db --database shop --updates --from 2026-11-20T14:00:00Z --to 2026-11-20T15:00:00Z`

const DEFAULT_ROWS = 100

const DROPPED: Record<string, string> = {
  r: 'DROP TABLE',
  p: 'DROP TABLE (partitioned)',
  m: 'DROP MATERIALIZED VIEW',
  v: 'DROP VIEW',
  f: 'DROP FOREIGN TABLE',
}

interface Options {
  table?: string
  database?: string
  from?: string
  to?: string
  rows: string
  updates?: boolean
  destination?: string
}

export const registerSearch: Register = (log, run) => {
  log
    .command('search')
    .description('find DROP, TRUNCATE and mass deletes, and how to get back to right before them')
    .argument('<service/source>', 'whose log')
    .option('--table <name>', 'only this table: NAME or SCHEMA.NAME')
    .option('--database <name>', 'only this database of the cluster')
    .option('--from <when>', 'where to begin; default: the oldest point')
    .option('--to <when>', 'where to end; default: the newest log')
    .option('--rows <n>', 'the fewest rows of a transaction that count as a mass delete', String(DEFAULT_ROWS))
    .option('--updates', 'mass updates too')
    .option('--destination <name>', 'read from this destination')
    .addHelpText('after', EXAMPLES)
    .action((target: string, options: Options) =>
      run(async (session) => {
        const { parseMoment } = await import('../../operations/moments.ts')
        const request = {
          target,
          table: options.table ?? null,
          database: options.database ?? null,
          from: options.from === undefined ? null : parseMoment(options.from),
          to: options.to === undefined ? null : parseMoment(options.to),
          rows: rowsOf(options.rows),
          updates: options.updates === true,
          destination: options.destination,
        }
        const application = await session.application()
        const { searchSourceLog } = await import('../../operations/search-log.ts')
        const { output } = session
        let total = 0
        const outcome = await searchSourceLog(application, request, session.reporting, (loss) => {
          total++
          if (output.isJson) output.item('loss', lossShape(loss))
          else for (const line of describe(loss, target)) output.line(line)
          return !output.isClosed
        })
        tellOutcome(session, outcome, options, total)
        const { service, source, destination, searched, notes, smaller } = outcome
        output.result({
          operation: 'log-search',
          service,
          source,
          destination,
          losses: total,
          searched,
          notes,
          smaller,
        })
        return 0
      }),
    )
}

function rowsOf(text: string): number {
  const rows = Number(text)
  if (Number.isSafeInteger(rows) && rows >= 1) return rows
  throw new RegainError('usage', `--rows needs a whole number from 1 on, not "${text}".`)
}

function lossShape({ oid, relationKind, persistence, ...loss }: LoggedLoss): object {
  return { ...loss, oid, ...(relationKind === '' ? {} : { relationKind, persistence }) }
}

function describe(loss: LoggedLoss, target: string): string[] {
  const line = `${loss.time.replace('T', ' ')}  ${whatOf(loss)}  ${printable(nameOf(loss))}  (transaction ${loss.xid}, commit at ${loss.lsn}, timeline ${loss.timeline})`
  const notes = loss.persistence === 'u' ? ['    it was unlogged: a restore brings it back empty'] : []
  if (loss.prepared)
    notes.push(
      '    it was prepared, and holds its locks after the restore: find it in pg_prepared_xacts, ROLLBACK PREPARED it',
    )
  const way =
    loss.at === null
      ? '    no --at names the moment before it: no point is older, or its timeline was left for a newer one, which has the same positions'
      : `    right before it: regain restore ${target} --to DIR --at ${loss.at} --start`
  return [line, ...notes, way]
}

function whatOf(loss: LoggedLoss): string {
  const size = loss.estimatedRows === null ? '' : ` of about ${count(loss.estimatedRows, 'row')}`
  switch (loss.kind) {
    case 'drop':
      return `${DROPPED[loss.relationKind] ?? 'DROP'}${loss.relationKind === 'r' ? size : ''}`
    case 'truncate':
      return `TRUNCATE${size}`
    case 'delete':
      return `DELETE of ${count(loss.rows ?? 0, 'row')}`
    case 'update':
      return `UPDATE of ${count(loss.rows ?? 0, 'row')}`
    case 'drop-database':
      return 'DROP DATABASE'
  }
}

function nameOf(loss: LoggedLoss): string {
  const database = loss.database ?? 'of an unknown database'
  if (loss.kind === 'drop-database') return database
  return `${database}: ${loss.schema ?? 'unknown schema'}.${loss.table ?? loss.oid}`
}

function tellOutcome({ output }: Session, outcome: LogSearchOutcome, options: Options, total: number): void {
  for (const note of outcome.notes) output.warn(note)
  const name = options.table ?? options.database
  if (!outcome.isKnown && name !== undefined && outcome.searched.length > 0)
    output.warn(
      `Nothing named ${printable(name)} was there at any time in the log that was searched. Names are compared exactly.`,
    )
  for (const { from, fromTime, to, toTime, timeline } of outcome.searched)
    output.say(`Searched timeline ${timeline} from ${formatTime(fromTime)} (${from}) to ${formatTime(toTime)} (${to}).`)
  output.say(`${count(total, 'loss', 'losses')} found.`)
  if (outcome.smaller > 0)
    output.say(
      `${count(outcome.smaller, 'transaction')} with fewer than ${options.rows} rows ${outcome.smaller === 1 ? 'is' : 'are'} not shown: see --rows.`,
    )
  if (total > 0)
    output.say(
      'Everything that was committed before comes back with --at lsn:…, the transaction itself does not. xid: would bring it back too.',
    )
}
