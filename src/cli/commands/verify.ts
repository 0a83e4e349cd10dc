import { formatDuration } from '../../config/duration.ts'
import type { VerifyOutcome } from '../../operations/verify.ts'
import type { Register, Session } from '../cli.ts'
import { count, formatBytes } from '../format.ts'
import type { Output } from '../output.ts'
import { tenantTarget } from '../tenant-target.ts'

const PATHS_SHOWN = 10

const EXAMPLES = `
Without --read-data: every object that a point or a log needs is there and has its size. With it: every byte is read
back, opened and compared. Damage is named with the points and paths that it hurts; exit status 4.

Examples:
  regain verify shop
  regain verify shop --read-data
  regain verify shop/db --destination offsite --read-data`

export const register: Register = (program, run) => {
  program
    .command('verify')
    .helpGroup('Every day:')
    .description('check that what is stored is whole')
    .argument('<service[/source]>', 'what to verify')
    .option('--read-data', 'read and check every byte')
    .option('--destination <name>', 'look at this destination only')
    .option('--tenant <name>', 'only this tenant of a source of tenants')
    .addHelpText('after', EXAMPLES)
    .action((named: string, options: { readData?: boolean; destination?: string; tenant?: string }) =>
      run(async (session) => {
        const target = await tenantTarget(session, named, options.tenant)
        const application = await session.application()
        const { verify } = await import('../../operations/verify.ts')
        const request = { target, readData: options.readData === true, destination: options.destination }
        const outcomes = await verify(application, request, session.reporting, (outcome) =>
          tellVerified(session, outcome, 'verify'),
        )
        return outcomes.every(({ problems }) => problems.length === 0) ? 0 : 4
      }),
    )
}

export function tellVerified({ output }: Session, outcome: VerifyOutcome, operation: string): void {
  const name = outcome.source === null ? outcome.service : `${outcome.service}/${outcome.source}`
  const { problems } = outcome
  if (!output.isJson) for (const problem of problems) tellProblem(output, problem)
  const extent = `${count(outcome.points, 'point')}, ${count(outcome.packs, 'pack')}, ${count(outcome.logSegments, 'log segment')}`
  output.say(
    `${name} at ${outcome.destination}: ${problems.length === 0 ? 'all is well' : `${count(problems.length, 'PROBLEM')}`}; ` +
      `${extent}; read ${formatBytes(outcome.bytesRead)} in ${formatDuration(outcome.durationMs)}`,
  )
  output.result({ operation, ...outcome })
}

export function tellProblem(output: Output, problem: VerifyOutcome['problems'][number]): void {
  output.warn(`${problem.object}: ${problem.kind}: ${problem.detail}`)
  for (const hurt of problem.hurts) {
    const shown = hurt.paths.slice(0, PATHS_SHOWN).join(', ')
    const more = hurt.paths.length > PATHS_SHOWN ? ' …' : ''
    output.warn(`  hurts point ${hurt.point.slice(0, 8)} of ${hurt.source}${shown === '' ? '' : `: ${shown}${more}`}`)
  }
}
