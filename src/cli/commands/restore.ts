import { resolve } from 'node:path'
import { formatDuration } from '../../config/duration.ts'
import { RegainError } from '../../errors.ts'
import type { RestoreOutcome } from '../../operations/restore.ts'
import type { PartsRequest } from '../../operations/restore-parts.ts'
import type { RestorePlan } from '../../operations/restore-plan.ts'
import type { PartPreview } from '../../operations/restore-preview.ts'
import type { Register, Session } from '../cli.ts'
import { count, formatBytes, formatTime } from '../format.ts'
import { tellMissed } from '../missed.ts'
import { pointShape, restoreShape } from '../shapes.ts'
import { tenantTarget } from '../tenant-target.ts'

const EXAMPLES = `
WHEN is one of
  latest                    as far as the newest point, and the log after it, reach (default)
  2026-11-20T14:59:59Z      a time with its zone; files: the newest point committed by then
  1f3a9c2e                  a point: its id, or enough of it to be unique
  lsn:16/B374D848  xid:7341  name:before-upgrade    PostgreSQL: a position, a transaction, a restore point

Nothing that exists is overwritten, so DIR must be empty or new, unless you say it twice: --in-place and --overwrite DIR.
Then what is there is compared with the point, all of it, and only what differs is written. A service with several sources gets one directory
for each below DIR. Every chunk is checked against the key before it is written.

Tables, a schema or a database alone: the whole cluster recovers in a sandbox (below $TMPDIR, removed again), pg_dump
reads what was asked for, and --to is one of
  FILE.sql  FILE.dump  DIR                SQL, or what pg_restore reads: one file, or a directory
  postgres://USER@HOST:PORT/DATABASE      that database, in one transaction, if nothing of it is there

Of dumps (postgres-dump) the archives are read directly, and without --table and such a URL means the whole server: roles
first, then each database. A database that is not there yet is made.

Of a source of tenants, --tenant brings one back: its files and a script for psql into a directory, or its rows into a
database that has the tables. There what it has now is replaced only if you name it twice: --tenant NAME --overwrite NAME.

Examples:
  regain restore shop --to /srv/restored --preview
  regain restore shop/db --to /srv/db --at 2026-11-20T14:59:59Z --start
  regain restore shop/db --to /srv/db --in-place --overwrite /srv/db
  regain restore shop/files --to /tmp/one --path "invoices/2026/*.pdf"
  regain restore shop/db --table orders --table sales.items --at 2026-11-20T14:59:59Z --to orders.sql
  regain restore shop/db --database shop --to postgres://postgres@localhost/rescue
  regain restore shop/dump --to postgres://postgres@localhost/
  regain restore shop/accounts --tenant acme --to postgres://app@localhost/shop --preview`

interface Options {
  to: string
  at: string
  path?: string
  start?: boolean
  preview?: boolean
  timeline?: string
  exclusive?: boolean
  inPlace?: boolean
  overwrite?: string
  tablespace?: string[]
  onlyDatabase?: string[]
  database?: string
  schema?: string
  table?: string[]
  tenant?: string
  destination?: string
}

export const register: Register = (program, run) => {
  program
    .command('restore')
    .helpGroup('Getting data back:')
    .description('bring a service or source back, into an empty directory')
    .argument('<service[/source]>', 'what to restore')
    .requiredOption('--to <place>', 'where to: an empty or new directory; with --table and such also a file or a URL')
    .option('--at <when>', 'which moment', 'latest')
    .option('--exclusive', 'right before that time, position or transaction, not with it')
    .option(
      '--timeline <which>',
      'of a database that was promoted or restored: number, latest (default), or current: of the point',
    )
    .option('--start', 'start the restored database and report the moment really reached')
    .option('--path <glob>', 'only these paths of a source of files')
    .option('--preview', 'print the plan and do nothing')
    .option('--destination <name>', 'read from this destination')
    .option('--in-place', 'into a directory that holds data: write what differs, remove what the point does not have')
    .option(
      '--overwrite <directory|tenant>',
      'say it again: the directory whose data --in-place writes over; or the tenant whose rows --to URL replaces',
    )
    .option('--tablespace <which=folder>', 'where a tablespace goes, by oid or former folder; can be repeated', collect)
    .option(
      '--only-database <name>',
      'a whole cluster with the content of this database alone (--database gives SQL); can be repeated',
      collect,
    )
    .option('--table <name>', 'only this table of a database: TABLE or SCHEMA.TABLE; can be repeated', collect)
    .option('--schema <name>', 'only this schema of a database')
    .option('--database <name>', 'only this database, or the one of --table and --schema; default: that of the url')
    .option(
      '--tenant <name>',
      'only this tenant, of a source of tenants: into a directory, or a database with its tables',
    )
    .addHelpText('after', EXAMPLES)
    .action((named: string, options: Options) =>
      run(async (session) => {
        const target = await tenantTarget(session, named, options.tenant)
        const { parseMoment, refineMoment } = await import('../../operations/moments.ts')
        const at = refineMoment(parseMoment(options.at), options)
        const isServer = /^postgres(ql)?:\/\//.test(options.to)
        if (asksForParts(options) || isServer) return restoreParts(session, target, at, options)
        const application = await session.application()
        const { planRestore } = await import('../../operations/restore-plan.ts')
        const request = {
          target,
          to: options.to,
          at,
          path: options.path ?? null,
          start: options.start === true,
          inPlace: options.inPlace === true,
          onlyDatabases: options.onlyDatabase ?? [],
          tablespaces: parseTablespaces(options.tablespace ?? []),
          destination: options.destination,
        }
        const plan = await planRestore(application, request, session.reporting)
        if (options.preview) {
          const { previewRestore } = await import('../../operations/restore-preview.ts')
          return preview(session, plan, await previewRestore(application, plan, session.reporting))
        }
        confirmOverwriting(plan, options, session)

        const { restore } = await import('../../operations/restore.ts')
        for (const line of planLines(plan)) session.output.say(line)
        const outcomes = await restore(application, plan, session.reporting, (outcome) => tell(session, outcome))
        return outcomes.every(isComplete) ? 0 : 3
      }),
    )
}

/** Never over existing data unless told so twice: by --in-place, and by naming the directory once more. */
function confirmOverwriting(plan: RestorePlan, { overwrite }: Options, { output }: Session): void {
  const over = plan.parts.filter(({ inPlace }) => inPlace)
  if (over.length === 0 || (overwrite !== undefined && resolve(overwrite) === plan.root)) return
  for (const line of planLines(plan)) output.say(line)
  throw new RegainError(
    'precondition-failed',
    `${over.map(({ directory }) => directory).join(', ')}: what is there would be written over, and can't be had back. Nothing was changed.`,
    { hint: `If that is what you want, add: --overwrite ${plan.root}` },
  )
}

function parseTablespaces(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.lastIndexOf('=')
      if (at > 0 && at < text.length - 1) return [text.slice(0, at), resolve(text.slice(at + 1))]
      throw new RegainError(
        'usage',
        `--tablespace ${text} does not name a tablespace and a folder. Nothing was done.`,
        {
          hint: 'Write --tablespace 16400=/mnt/fast, or the folder where the original had it: --tablespace /old=/new.',
        },
      )
    }),
  )
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value]
}

function asksForParts({ table, schema, database }: Options): boolean {
  return table !== undefined || schema !== undefined || database !== undefined
}

async function restoreParts(
  session: Session,
  target: string,
  at: PartsRequest['at'],
  options: Options,
): Promise<number> {
  const odd = [
    ...(options.start ? ['--start'] : []),
    ...(options.path !== undefined ? ['--path'] : []),
    ...(options.inPlace || (options.overwrite !== undefined && options.tenant === undefined) ? ['--in-place'] : []),
    ...(options.tablespace ? ['--tablespace'] : []),
    ...(options.onlyDatabase ? ['--only-database'] : []),
  ]
  if (odd.length > 0) {
    throw new RegainError('usage', `${odd.join(', ')} does not go with parts of a database.`, {
      hint: 'Leave it out; or restore the whole source.',
    })
  }
  const { output, reporting } = session
  const operations = await import('../../operations/restore-parts.ts')
  const application = await session.application()
  const { table: tables = [], schema = null, database = null, tenant, overwrite } = options
  if (overwrite !== undefined && overwrite !== tenant)
    throw new RegainError('usage', `--overwrite must name the tenant once more, and "${overwrite}" is not "${tenant}".`)
  const request = {
    target,
    selection: { tables, schema, database },
    to: options.to,
    at,
    ...(overwrite === undefined ? {} : { overwrite: true as const }),
    destination: options.destination,
  }
  const plan = await operations.planPartsRestore(application, request, reporting)
  const name = `${plan.service.name}/${plan.source.name}`
  const lines = [`${name} to ${plan.at}:`, ...plan.steps.map((step, i) => `  ${i + 1}. ${step}`)]
  if (options.preview) {
    for (const line of lines) output.line(line)
    const { source, destination, point, steps } = plan
    const part = { source: source.name, destination: destination.name, point: pointShape(point), steps }
    output.result({ operation: 'restore-preview', service: plan.service.name, at: plan.at, parts: [part] })
    return 0
  }
  for (const line of lines) output.say(line)
  const outcome = await operations.restoreParts(application, plan, reporting)
  const what = outcome.tables.length > 0 ? outcome.tables.join(', ') : (schema ?? outcome.database)
  output.say(
    `${what} of ${name} is in ${outcome.target}: ${formatBytes(outcome.bytes)} in ${formatDuration(outcome.durationMs)}, ` +
      `as of ${formatTime(outcome.reached)}`,
  )
  if (!output.isJson) {
    tellMissed(output, outcome.missed, outcome.missed.length, `what was restored of ${name}`)
    tellMissed(output, plan.point.missed, plan.point.missedCount, 'the point itself since it was taken')
  }
  output.result({ ...restoreShape(outcome), database: outcome.database, schema, tables: outcome.tables })
  return isComplete(outcome) ? 0 : 3
}

function preview({ output }: Session, plan: RestorePlan, previews: readonly PartPreview[]): number {
  for (const line of planLines(plan)) output.line(line)
  for (const line of previews.flatMap(costLines)) output.line(line)
  const parts = plan.parts.map(({ source, destination, point, directory, steps }, i) => ({
    source: source.name,
    destination: destination.name,
    point: pointShape(point),
    target: directory,
    steps,
    ...previews[i],
  }))
  output.result({ operation: 'restore-preview', service: plan.service, at: plan.at, parts })
  return 0
}

function costLines({ until, bytes, predicted, space }: PartPreview): string[] {
  const { neededBytes, freeBytes } = space
  const lines = [`  Points and log reach ${formatTime(until)}.`]
  if (bytes !== null && predicted !== null) {
    const log = bytes.log === 0 ? '' : `, up to ${formatBytes(bytes.log)} of log replayed`
    lines.push(
      `  About ${formatBytes(bytes.read)} are read from the repository and ${formatBytes(bytes.write)} written${log}: about ${formatDuration(predicted.durationMs)}, ${predicted.basis}.`,
    )
  }
  if (neededBytes === null) lines.push(`  ${formatBytes(freeBytes)} are free there.`)
  else if (neededBytes <= freeBytes) lines.push(`  It fits: ${formatBytes(freeBytes)} are free there.`)
  else
    lines.push(`  IT DOES NOT FIT: only ${formatBytes(freeBytes)} are free there, unless that file system compresses.`)
  return lines
}

function planLines(plan: RestorePlan): string[] {
  return plan.parts.flatMap((part) => [
    `${plan.service}/${part.source.name} to ${plan.at}:`,
    ...part.steps.map((step, i) => `  ${i + 1}. ${step}`),
  ])
}

/** What the point never had is as missing as what could not be brought back. */
function isComplete({ missed, point }: Pick<RestoreOutcome, 'missed' | 'point'>): boolean {
  return missed.length === 0 && point.complete
}

function tell({ output }: Session, outcome: RestoreOutcome): void {
  const { point, reached, connection } = outcome
  const over =
    outcome.over === undefined
      ? ''
      : `written, ${formatBytes(outcome.over.reusedBytes)} right already, ${count(outcome.over.removed, 'thing')} removed, `
  const name = `${outcome.service}/${outcome.source}`
  output.say(
    `${name} is back in ${outcome.target}: ${count(outcome.files, 'file')}, ${formatBytes(outcome.bytes)} ${over}` +
      `in ${formatDuration(outcome.durationMs)}, as of ${formatTime(reached ?? point.committedAt)}`,
  )
  if (connection !== undefined) output.say(`Connect with: ${connection}`)
  if (!output.isJson) {
    tellMissed(output, outcome.missed, outcome.missed.length, `what was restored of ${name}`)
    tellMissed(output, point.missed, point.missedCount, 'the point itself since it was taken')
  }
  output.result(restoreShape(outcome))
}
