import { formatDuration } from '../../config/duration.ts'
import type { ReplicateOutcome } from '../../operations/replicate.ts'
import type { Register, Session } from '../cli.ts'
import { count, formatBytes } from '../format.ts'
import { pointShape } from '../shapes.ts'

const EXAMPLES = `
A backup goes to every destination by itself. This command is for what one of them missed while it was away, and for a
destination that is new. Nothing is read from the source: every piece is proven as it is read from one repository, and
sealed again under the other one's own keys. An interrupted copy goes on where it stopped.

Without --all, points and log older than what a destination has are left alone: they were removed there, or never wanted.

Examples:
  regain replicate shop                             from the first destination to all others
  regain replicate shop --to offsite --all          everything, to a new destination
  regain replicate shop/db --from offsite --to hot  bring back what the first one lost`

export const register: Register = (program, run) => {
  program
    .command('replicate')
    .helpGroup('Every day:')
    .description('copy points and logs from one destination to others')
    .argument('<service[/source]>', 'what to copy')
    .option('--from <name>', 'the destination to read (default: the first of the service)')
    .option('--to <name>', 'the destination to fill (default: every other one)')
    .option('--all', 'also what is older than the newest point there')
    .addHelpText('after', EXAMPLES)
    .action((target: string, options: { from?: string; to?: string; all?: boolean }) =>
      run(async (session) => {
        const application = await session.application()
        const { replicate } = await import('../../operations/replicate.ts')
        const request = { target, from: options.from, to: options.to, all: options.all === true }
        const outcomes = await replicate(application, request, session.reporting, (outcome) => tell(session, outcome))
        return conclude(session, outcomes)
      }),
    )
}

function tell({ output }: Session, outcome: ReplicateOutcome): void {
  const { service, source, from, to, points, logSegments, durationMs, error } = outcome
  const storedBytes = points.reduce((sum, point) => sum + point.bytes.stored, 0)
  if (!output.isJson)
    output.say(
      `${service}/${source} from ${from} to ${to}: ${count(points.length, 'point')} and ${count(logSegments, 'log segment')} copied, ` +
        `stored ${formatBytes(storedBytes)}; ${formatDuration(durationMs)}${error === null ? '' : '; then it FAILED:'}`,
    )
  if (error === null) output.result({ operation: 'replicate', ...outcome, points: points.map(pointShape) })
  else if (!output.isJson) output.error(error)
}

/** Errors come last for programs: the last line must not look like success when something failed. */
function conclude({ output }: Session, outcomes: ReplicateOutcome[]): number {
  const failed = outcomes.filter((outcome) => outcome.error !== null)
  if (output.isJson)
    for (const { error, service, source, from, to, points } of failed)
      output.error(error!, { operation: 'replicate', service, source, from, to, points: points.map(pointShape) })
  return failed[0]?.error?.exit ?? 0
}
