import { RegainError } from '../../errors.ts'
import type { RecoveryWindow } from '../../operations/context.ts'
import type { SourcePoints } from '../../operations/points.ts'
import type { Register } from '../cli.ts'
import { formatBytes, formatTime, table } from '../format.ts'
import { pointShape } from '../shapes.ts'
import { tenantTarget } from '../tenant-target.ts'

const EXAMPLES = `
A point can be restored as it is. A source with a log (PostgreSQL) can also be brought back to any moment inside a
window; between windows there is a gap, and no moment inside a gap can be reached.
Times are UTC. An id can be shortened wherever a point is asked for.

Examples:
  regain points                   everything
  regain points shop/db           one source
  regain points --json | jq .     all that is known`

export const register: Register = (program, run) => {
  program
    .command('points')
    .helpGroup('Every day:')
    .description('list recovery points, windows and gaps')
    .argument('[service[/source]]', 'what to list; everything if left out')
    .option('--destination <name>', 'look at this destination only')
    .option('--tenant <name>', 'of this tenant of a source of tenants')
    .addHelpText('after', EXAMPLES)
    .action((named: string | undefined, { tenant, ...options }: { destination?: string; tenant?: string }) =>
      run(async (session) => {
        if (tenant !== undefined && named === undefined)
          throw new RegainError('usage', '--tenant needs the source that it is a tenant of: SERVICE/SOURCE.')
        const target = named === undefined ? undefined : await tenantTarget(session, named, tenant)
        const application = await session.application()
        const { listPoints } = await import('../../operations/points.ts')
        const found = await listPoints(application, { target, ...options }, session.reporting)
        const { output } = session
        for (const line of describe(found)) output.line(line)
        output.result({ operation: 'points', sources: found.map(sourceShape) })
        return 0
      }),
    )
}

function sourceShape({ points, holds, ...source }: SourcePoints): object {
  const shaped = points.map((point) => ({
    ...pointShape(point),
    bytes: point.bytes,
    files: point.entries,
    missedCount: point.missedCount,
    tool: point.tool,
    ...(point.fingerprint === undefined ? {} : { fingerprint: point.fingerprint }),
    ...(holds[point.id] === undefined ? {} : { hold: holds[point.id] }),
  }))
  return { ...source, points: shaped }
}

function describe(found: SourcePoints[]): string[] {
  const lines: string[] = []
  for (const source of found) {
    if (lines.length > 0) lines.push('')
    const note = source.isConfigured ? '' : ', no longer in the configuration'
    lines.push(`${source.service}/${source.source} (${source.sourceType}) at ${source.destination}${note}`)
    lines.push(...(source.points.length === 0 ? ['  no recovery point: this is not protected'] : pointTable(source)))
    lines.push(...windowLines(source.windows))
  }
  return lines
}

function pointTable({ points, holds }: SourcePoints): string[] {
  const columns = [
    { title: 'POINT' },
    { title: 'COMMITTED' },
    { title: 'KIND' },
    { title: 'SIZE', align: 'right' as const },
    { title: 'NEW', align: 'right' as const },
    { title: 'COMPLETE' },
    { title: 'LABEL' },
    ...(Object.keys(holds).length === 0 ? [] : [{ title: 'HELD' }]),
  ]
  const rows = points.map((point) => [
    point.id.slice(0, 8),
    formatTime(point.committedAt),
    point.kind,
    formatBytes(point.bytes.source),
    formatBytes(point.bytes.new),
    point.complete ? 'yes' : `NO: ${point.missedCount} missing`,
    point.label ?? '',
    ...(holds[point.id] === undefined ? [] : [holds[point.id] || 'yes']),
  ])
  return table(columns, rows).map((line) => `  ${line}`)
}

function windowLines(windows: RecoveryWindow[] | null): string[] {
  if (windows === null) return []
  if (windows.length === 0) return ['  no window: there is no log to recover with, only the points themselves']
  return windows.flatMap((window) => {
    const end = window.to.time === null ? window.to.position : `${formatTime(window.to.time)} (${window.to.position})`
    const start = `${formatTime(window.from.time)} (${window.from.position})`
    const line = `  window: any moment from ${start} to ${end}, ${window.branch}`
    return window.endsBecause === null ? [line] : [line, `  GAP after it: ${window.endsBecause}`]
  })
}
