import type { Register } from '../cli.ts'
import { firstExample, helpCommand } from '../program.ts'
import { registerSearch } from './log-search.ts'

/** What the recovery script in a restored data directory takes for "there is no such file". */
export const ABSENT_EXIT = 44

export const register: Register = (program, run) => {
  const log = program
    .command('log')
    .helpGroup('Getting data back:')
    .description('find out when data was lost: search the log of a database')
    .addHelpCommand(helpCommand())
  firstExample(log, 'regain log search shop/db')
  registerSearch(log, run)
  log
    .command('fetch', { hidden: true })
    .description('bring one file of the log to where a recovering server wants it; exit status 44: there is none')
    .argument('<service/source>', 'whose log')
    .argument('<name>', 'the file that is asked for (%f)')
    .argument('<target>', 'where to put it (%p)')
    .requiredOption('--destination <name>', 'where to read from')
    .option('--spool <dir>', 'folder for what will be asked for next')
    .option(
      '--guard <file>',
      'which recovery it is for, so that nothing is replayed that would touch the files of others',
    )
    .action(
      (target: string, name: string, to: string, options: { destination: string; spool?: string; guard?: string }) =>
        run(async (session) => {
          const application = await session.application()
          const { fetchLogFile } = await import('../../operations/fetch-log.ts')
          const isThere = await fetchLogFile(application, { target, name, to, ...options }, session.reporting)
          session.output.result({ operation: 'log-fetch', name, found: isThere })
          return isThere ? 0 : ABSENT_EXIT
        }),
    )
}
