import { formatDuration } from '../../config/duration.ts'
import { RegainError } from '../../errors.ts'
import type { RestoreOutcome } from '../../operations/restore.ts'
import type { RestorePlan } from '../../operations/restore-plan.ts'
import type { Register, Session } from '../cli.ts'
import { count, formatBytes, formatTime } from '../format.ts'
import { tellMissed } from '../missed.ts'
import { pointShape, restoreShape } from '../shapes.ts'

const EXAMPLES = `
WHEN is one of
  latest                    as far as the newest point, and the log after it, reach (default)
  2026-11-20T14:59:59Z      a time with its zone; files: the newest point committed by then
  1f3a9c2e                  a point: its id, or enough of it to be unique
  lsn:16/B374D848  xid:7341  name:before-upgrade    PostgreSQL: a position, a transaction, a restore point

Nothing that exists is ever overwritten: DIR must be empty or new. A service with several sources gets one directory
for each below DIR. Every chunk is checked against the key before it is written.

Examples:
  regain restore shop --to /srv/restored --preview
  regain restore shop/db --to /srv/db --at 2026-11-20T14:59:59Z --start
  regain restore shop/files --to /tmp/one --path "invoices/2026/*.pdf"`

interface Options {
  to: string
  at: string
  path?: string
  start?: boolean
  preview?: boolean
  database?: string
  table?: string
  destination?: string
}

export const register: Register = (program, run) => {
  program
    .command('restore')
    .helpGroup('Getting data back:')
    .description('bring a service or source back, into an empty directory')
    .argument('<service[/source]>', 'what to restore')
    .requiredOption('--to <dir>', 'where to: an empty or new directory')
    .option('--at <when>', 'which moment', 'latest')
    .option('--start', 'start the restored database and report the moment really reached')
    .option('--path <glob>', 'only these paths of a source of files')
    .option('--preview', 'print the plan and do nothing')
    .option('--destination <name>', 'read from this destination')
    .option('--database <name>', 'not available in this version')
    .option('--table <name>', 'not available in this version')
    .addHelpText('after', EXAMPLES)
    .action((target: string, options: Options) =>
      run(async (session) => {
        refuseParts(options)
        const { parseMoment } = await import('../../operations/moments.ts')
        const at = parseMoment(options.at)
        const application = await session.application()
        const { planRestore } = await import('../../operations/restore-plan.ts')
        const request = {
          target,
          to: options.to,
          at,
          path: options.path ?? null,
          start: options.start === true,
          destination: options.destination,
        }
        const plan = await planRestore(application, request, session.reporting)
        if (options.preview) return preview(session, plan)

        const { restore } = await import('../../operations/restore.ts')
        for (const line of planLines(plan)) session.output.say(line)
        const outcomes = await restore(application, plan, session.reporting, (outcome) => tell(session, outcome))
        return outcomes.every(isComplete) ? 0 : 3
      }),
    )
}

function refuseParts(options: Options): void {
  const option = options.database !== undefined ? '--database' : options.table !== undefined ? '--table' : null
  if (option === null) return
  throw new RegainError('usage', `${option} is not available in this version. Nothing was done.`, {
    hint: 'Restore the whole cluster with --start, then copy what you need with pg_dump.',
  })
}

function preview({ output }: Session, plan: RestorePlan): number {
  for (const line of planLines(plan)) output.line(line)
  const parts = plan.parts.map(({ source, destination, point, directory, steps }) => ({
    source: source.name,
    destination: destination.name,
    point: pointShape(point),
    target: directory,
    steps,
  }))
  output.result({ operation: 'restore-preview', service: plan.service, at: plan.at, parts })
  return 0
}

function planLines(plan: RestorePlan): string[] {
  return plan.parts.flatMap((part) => [
    `${plan.service}/${part.source.name} to ${plan.at}:`,
    ...part.steps.map((step, i) => `  ${i + 1}. ${step}`),
  ])
}

/** What the point never had is as missing as what could not be brought back. */
function isComplete({ missed, point }: RestoreOutcome): boolean {
  return missed.length === 0 && point.complete
}

function tell({ output }: Session, outcome: RestoreOutcome): void {
  const { point, reached, connection } = outcome
  const name = `${outcome.service}/${outcome.source}`
  output.say(
    `${name} is back in ${outcome.target}: ${count(outcome.files, 'file')}, ${formatBytes(outcome.bytes)} ` +
      `in ${formatDuration(outcome.durationMs)}, as of ${formatTime(reached ?? point.committedAt)}`,
  )
  if (connection !== undefined) output.say(`Connect with: ${connection}`)
  if (!output.isJson) {
    tellMissed(output, outcome.missed, outcome.missed.length, `what was restored of ${name}`)
    tellMissed(output, point.missed, point.missedCount, 'the point itself since it was taken')
  }
  output.result(restoreShape(outcome))
}
