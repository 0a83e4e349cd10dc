import type { Register } from '../cli.ts'
import { helpCommand } from '../program.ts'
import { ABSENT_EXIT } from './log.ts'

const EXAMPLES = `
In postgresql.conf:
  archive_command = '/opt/regain/regain -q -c /etc/regain/regain.yaml wal push shop/db %p'
  restore_command = '/opt/regain/regain -q -c /etc/regain/regain.yaml wal fetch shop/db %f %p'`

export const register: Register = (program, run) => {
  const wal = program
    .command('wal')
    .helpGroup('Every day:')
    .description("PostgreSQL's own commands for its log: archive_command and restore_command")
    .addHelpText('after', EXAMPLES)
    .addHelpCommand(helpCommand())
  wal
    .command('push')
    .description('store one file of the log in every destination; exit 0 only when it is durable there')
    .argument('<service/source>', 'whose log')
    .argument('<path>', 'the file (%p)')
    .action((target: string, path: string) =>
      run(async (session) => {
        const application = await session.application()
        const { pushLogFile } = await import('../../operations/push-log.ts')
        const stored = await pushLogFile(application, { target, path })
        session.output.result({ operation: 'wal-push', path, stored })
        return 0
      }),
    )
  wal
    .command('fetch')
    .description(
      'bring one file of the log to where the server wants it; exit 1: there is none, 255: recovery must stop',
    )
    .argument('<service/source>', 'whose log')
    .argument('<name>', 'the file that is asked for (%f)')
    .argument('<target>', 'where to put it (%p)')
    .option('--destination <name>', 'where to read from; the first of the service if left out')
    .option('--spool <dir>', 'folder for what will be asked for next')
    .action((target: string, name: string, to: string, options: { destination?: string; spool?: string }) =>
      run(async (session) => {
        const application = await session.application()
        const { fetchLogFile } = await import('../../operations/fetch-log.ts')
        const isThere = await fetchLogFile(application, { target, name, to, ...options }, session.reporting)
        session.output.result({ operation: 'wal-fetch', name, found: isThere })
        // The launcher makes 1 of it, and 255 of every failure, of which most would mean "no such file" to PostgreSQL.
        return isThere ? 0 : ABSENT_EXIT
      }),
    )
}
