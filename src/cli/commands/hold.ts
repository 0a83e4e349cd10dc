import type { Register } from '../cli.ts'
import { pointShape } from '../shapes.ts'

const EXAMPLES = `
A point that is held is never removed, whatever the retention rules say, by any prune of any host: the hold is stored with
the point, and with each copy of it at the other destinations. regain points shows it.

Examples:
  regain hold 3fa9c2e1 --reason "case 4711"
  regain hold shop/db@2026-11-20T14:59:59Z
  regain hold 3fa9c2e1 --release`

export const register: Register = (program, run) => {
  program
    .command('hold')
    .helpGroup('Every day:')
    .description('keep a point in spite of the retention rules, until it is released')
    .argument('<point>', 'an id, or SERVICE/SOURCE[@WHEN]')
    .option('--reason <text>', 'why, kept with the hold')
    .option('--release', 'take the hold away')
    .addHelpText('after', EXAMPLES)
    .action((point: string, options: { reason?: string; release?: boolean }) =>
      run(async (session) => {
        const application = await session.application()
        const { hold } = await import('../../operations/hold.ts')
        const { output } = session
        const isRelease = options.release === true
        const reason = isRelease ? null : (options.reason ?? '')
        for (const outcome of await hold(application, point, reason, session.reporting)) {
          const { service, source, destination, changed } = outcome
          const state = isRelease ? (changed ? 'released' : 'was not held') : changed ? 'held' : 'was held already'
          output.say(`${service}/${source} at ${destination}: point ${outcome.point.id.slice(0, 8)} ${state}`)
          if (!isRelease && !changed && reason !== '')
            output.warn(
              'The hold that was there keeps its own reason. To give it another: --release, then hold it again.',
            )
          output.result({
            operation: 'hold',
            service,
            source,
            destination,
            point: pointShape(outcome.point),
            held: !isRelease,
            changed,
          })
        }
        return 0
      }),
    )
}
