import { formatDuration } from '../../config/duration.ts'
import type { Point } from '../../model.ts'
import type { BackupOutcome } from '../../operations/backup.ts'
import type { Register, Session } from '../cli.ts'
import { count, formatBytes } from '../format.ts'
import { gaveWayLine } from '../gave-way.ts'
import { tellMissed } from '../missed.ts'
import type { Output } from '../output.ts'
import { backupShape } from '../shapes.ts'
import { tenantTarget } from '../tenant-target.ts'

const EXAMPLES = `
What is unchanged since the last point is not read or stored again; the new point is complete in itself all the same.
Nothing of a point is visible before all of it is durable, so an interrupted backup leaves nothing behind.

Examples:
  regain backup shop                            every source of shop, at every destination
  regain backup shop/db --label "before 2.0"    one source, with a word on why
  regain backup shop --full                     read everything, whatever seems unchanged

Exit status 3: the point is there, but what could not be read is missing from it and named. Status 1 with a point: it is
whole, but the after command failed, so the application may still be frozen.`

export const register: Register = (program, run) => {
  program
    .command('backup')
    .helpGroup('Every day:')
    .description('take a recovery point now')
    .argument('<service[/source]>', 'what to back up')
    .option('--full', 'read everything instead of what changed')
    .option('--label <text>', 'a word on why, kept with the point')
    .option('--tenant <name>', 'only this tenant of a source of tenants, which all were backed up of before')
    .addHelpText('after', EXAMPLES)
    .action((named: string, options: { full?: boolean; label?: string; tenant?: string }) =>
      run(async (session) => {
        const target = await tenantTarget(session, named, options.tenant)
        const application = await session.application()
        const { backup } = await import('../../operations/backup.ts')
        const request = {
          target,
          kind: options.full ? ('full' as const) : ('incremental' as const),
          label: options.label,
          ...(options.tenant === undefined ? {} : { tenant: options.tenant }),
        }
        const outcomes = await backup(application, request, session.reporting, (outcome) => tell(session, outcome))
        return conclude(session, outcomes)
      }),
    )
}

function tell({ output }: Session, outcome: BackupOutcome): void {
  const name = `${outcome.service}/${outcome.source}`
  const { point, error } = outcome
  if (point === null) output.say(`${name} at ${outcome.destination} FAILED:`)
  else tellPoint(output, outcome, point)
  // Programs get theirs at the end.
  if (error !== null && !output.isJson) output.error(error)
}

function tellPoint(output: Output, outcome: BackupOutcome, point: Point): void {
  const name = `${outcome.service}/${outcome.source}`
  const { bytes } = point
  output.say(
    `${name} at ${outcome.destination}: point ${point.id.slice(0, 8)} (${point.kind}), ` +
      `${count(point.entries, 'entry', 'entries')}, ${formatBytes(bytes.source)}; ` +
      `read ${formatBytes(bytes.read)}, new ${formatBytes(bytes.new)}, stored ${formatBytes(bytes.stored)}; ` +
      `${formatDuration(outcome.durationMs)}`,
  )
  const gaveWay = gaveWayLine(outcome)
  if (gaveWay !== null) output.say(gaveWay)
  if (!output.isJson) tellMissed(output, point.missed, point.missedCount, `this point of ${name}`)
  output.result(backupShape({ ...outcome, point }))
}

/** Errors come last for programs: the last line must not look like success when something failed. */
function conclude({ output }: Session, outcomes: BackupOutcome[]): number {
  const failed = outcomes.filter((outcome) => outcome.error !== null)
  if (output.isJson) {
    for (const { error, service, source, destination } of failed) {
      output.error(error!, { operation: 'backup', service, source, destination })
    }
  }
  if (failed[0] !== undefined) return failed[0].error!.exit
  return outcomes.every((outcome) => outcome.point?.complete) ? 0 : 3
}
