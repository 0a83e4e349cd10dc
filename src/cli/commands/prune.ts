import { formatDuration } from '../../config/duration.ts'
import type { PruneOutcome, ServicePlan } from '../../operations/prune.ts'
import type { Register, Session } from '../cli.ts'
import { count, formatBytes, formatTime, table } from '../format.ts'

const EXAMPLES = `
What is kept is said by retention: in the configuration; regain hold keeps a point in spite of it. The newest point of a
source and its newest complete one are never removed. A plan is made first and then carried out, nothing else: --dry-run
shows it, with the reason for every point. regain serve does this by itself, daily unless schedule: prune: says otherwise.

It may run beside backups and restores. What a backup that is running may be using is removed by the next prune.

Examples:
  regain prune shop --dry-run        what would be removed, and why everything else is kept
  regain prune                       every service, at all destinations`

export const register: Register = (program, run) => {
  program
    .command('prune')
    .helpGroup('Every day:')
    .description('remove the points that retention does not keep, and free their space')
    .argument('[service]', 'one service; all if left out')
    .option('--dry-run', 'show the plan and do nothing')
    .option('--destination <name>', 'at this destination only')
    .addHelpText('after', EXAMPLES)
    .action((service: string | undefined, options: { dryRun?: boolean; destination?: string }) =>
      run(async (session) => {
        const application = await session.application()
        const { prune } = await import('../../operations/prune.ts')
        const request = { service, destination: options.destination, dryRun: options.dryRun === true }
        const outcomes = await prune(application, request, session.reporting, (outcome) =>
          tell(session, outcome, request),
        )
        return conclude(session, outcomes)
      }),
    )
}

function tell({ output }: Session, outcome: PruneOutcome, { dryRun }: { dryRun: boolean }): void {
  const { service, destination, plan, report, error, durationMs } = outcome
  if (!output.isJson && plan !== null) {
    output.line(`${service} at ${destination}`)
    for (const line of pointLines(plan, dryRun)) output.line(`  ${line}`)
    for (const line of summary(plan)) output.line(`  ${line}`)
    for (const wait of report?.waits ?? plan.removal.waits) output.warn(wait)
  }
  if (!output.isJson && report !== null) {
    const segments = report.logSegments === 0 ? '' : ` and ${count(report.logSegments, 'log segment')}`
    const later = report.bytesLater === 0 ? '' : `; ${formatBytes(report.bytesLater)} more with the next prune`
    output.say(
      `${service} at ${destination}: removed ${count(report.expired.length, 'point')}, ` +
        `${count(report.packs.removed, 'pack')}${segments}; ` +
        `freed ${formatBytes(Math.max(0, report.bytesFreed))}${later}; ${formatDuration(durationMs)}`,
    )
  }
  if (error === null) output.result({ operation: 'prune', service, destination, dryRun, ...shape(outcome) })
  // Programs get theirs at the end.
  else if (!output.isJson) output.error(error)
}

/** Of a plan that is only shown, every point with its reasons; of one that is carried out, what goes. */
function pointLines({ points }: ServicePlan, all: boolean): string[] {
  const shown = all ? points : points.filter(({ keep }) => !keep)
  if (shown.length === 0) return []
  const columns = ['POINT', 'COMMITTED', 'SOURCE', 'COMPLETE', 'DECISION', 'WHY'].map((title) => ({ title }))
  const rows = shown.map((point) => [
    point.id.slice(0, 8),
    formatTime(point.committedAt),
    point.source,
    point.complete ? 'yes' : 'NO',
    point.keep ? 'keep' : 'REMOVE',
    point.reasons.map(({ text }) => text).join('; '),
  ])
  return table(columns, rows)
}

function summary({ points, logs, removal }: ServicePlan): string[] {
  const kept = points.filter(({ keep }) => keep).length
  const lines = [`points: ${kept} kept, ${points.length - kept} removed`]
  for (const { source, from, reason } of logs) {
    const ranges = removal.trimLog.filter((range) => range.source === source)
    const segments = ranges.reduce((sum, range) => sum + range.segments, 0)
    const bytes = ranges.reduce((sum, range) => sum + range.bytes, 0)
    const start = from === null ? reason : `kept ${reason} (${from.slice(0, 8)})`
    lines.push(`log of ${source}: ${start}; ${count(segments, 'segment')} removed (${formatBytes(bytes)})`)
  }
  const { packs, bytes, sessions, pins } = removal
  lines.push(
    `data: of ${count(packs.total, 'pack')} (${formatBytes(bytes.total)}), ${packs.remove.length} removed and ` +
      `${packs.repack.length} written anew (${formatBytes(bytes.repacked)}); frees ${formatBytes(Math.max(0, bytes.freed))}`,
  )
  if (sessions.length + pins.length > 0)
    lines.push(
      `left behind by processes that ended: ${count(sessions.length, 'session')}, ${count(pins.length, 'pin')}`,
    )
  return lines
}

function shape({ plan, report, durationMs }: PruneOutcome): object {
  if (plan === null) return { durationMs }
  const { points, logs, removal } = plan
  const { packs, bytes, sessions, pins, trimLog } = removal
  return {
    points,
    logs: logs.map((log) => ({ ...log, removed: trimLog.filter(({ source }) => source === log.source) })),
    packs: { total: packs.total, remove: packs.remove.length, repack: packs.repack.length },
    bytes,
    sessions: sessions.length,
    pins: pins.length,
    waits: report?.waits ?? removal.waits,
    report,
    durationMs,
  }
}

/** Errors come last for programs: the last line must not look like success when something failed. */
function conclude({ output }: Session, outcomes: PruneOutcome[]): number {
  const failed = outcomes.filter((outcome) => outcome.error !== null)
  if (output.isJson)
    for (const { error, service, destination } of failed)
      output.error(error!, { operation: 'prune', service, destination })
  return failed[0]?.error?.exit ?? 0
}
