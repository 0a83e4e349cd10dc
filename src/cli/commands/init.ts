import { existsSync } from 'node:fs'
import { relative } from 'node:path'
import type { InitChoices, InitReport, WrittenConfigurationFiles } from '../../operations/init.ts'
import type { Register, Session } from '../cli.ts'
import { chooseByFlags, chooseByQuestions, type InitFlags } from '../init-choices.ts'

const EXAMPLES = `
Writes regain.yaml, never over an existing one, then makes the keys and repositories that it names. With a
configuration in place only what is missing is made, so it is safe to repeat.

Examples:
  regain init                                         asks; finds a PostgreSQL of this machine
  regain init --yes --files /srv/uploads              never asks
  regain init --service shop --postgres postgres://regain@127.0.0.1/postgres \\
              --files /srv/shop --destination /mnt/backup
  regain init --postgres '\${SHOP_DATABASE_URL}'       leaves the URL in the environment`

export const register: Register = (program, run) => {
  program
    .command('init')
    .helpGroup('Setting up:')
    .description('write a configuration, make its keys and repositories')
    .option('-y, --yes', 'never ask; take what the options say and what is found')
    .option('--service <name>', 'name of the service')
    .option('--postgres <url>', 'database to protect')
    .option('--files <dir...>', 'directories to protect')
    .option('--destination <dir>', 'where the backups go')
    .addHelpText('after', EXAMPLES)
    .action((flags: InitFlags) => run((session) => runInit(session, flags)))
}

async function runInit(session: Session, flags: InitFlags): Promise<number> {
  const { configurationPath } = await import('../../config/find.ts')
  const path = configurationPath(session.configFlag, session.host.environment)
  let written: WrittenConfigurationFiles | null = null
  if (existsSync(path)) {
    session.output.say(`${path} is in place and stays as it is.`)
    if (Object.keys(flags).some((flag) => flag !== 'yes')) {
      session.output.warn(`The options were not used: what is protected is written in ${path}. Change it there.`)
    }
  } else {
    const { writeConfiguration } = await import('../../operations/init.ts')
    written = await writeConfiguration(path, await choose(session, flags), session.host.ambient)
    session.output.say(`Wrote ${path}.`)
  }
  const application = await session.application()
  const { init } = await import('../../operations/init.ts')
  const report = await init(application)
  tell(session, report, written)
  session.output.result({
    operation: 'init',
    isNewConfig: written !== null,
    createRole: written?.createRole ?? null,
    ...report,
  })
  return 0
}

async function choose(session: Session, flags: InitFlags): Promise<InitChoices> {
  const canAsk = session.host.stdin.isTTY === true && session.host.stderr.isTTY === true
  return flags.yes || session.output.isJson || !canAsk
    ? chooseByFlags(session, flags)
    : chooseByQuestions(session, flags)
}

function tell({ output }: Session, report: InitReport, written: WrittenConfigurationFiles | null): void {
  for (const { service, destination, isNew } of report.repositories) {
    output.say(`The repository of ${service} at ${destination} ${isNew ? 'is made' : 'was there already'}.`)
  }
  for (const key of report.newKeys) {
    output.say('')
    output.say(`  A NEW KEY WAS MADE: ${key.description}`)
    output.say(
      '  Without it nobody can read the backups: not you, not us. If this machine is lost, the key is lost with it.',
    )
    output.say(
      '  So copy that file to a safe place elsewhere NOW: a password manager, a vault, a sheet of paper in a drawer.',
    )
    output.say('')
  }
  if (written !== null && written.createRole !== null) {
    output.say('The database needs a role for Regain. Make it with this command, once; then delete the file:')
    output.say(`  ${written.createRole}`)
  }
  const configuration = relative('', report.config) === 'regain.yaml' ? '' : ` --config ${report.config}`
  output.say(`Next: regain check${configuration}`)
}
