import { existsSync } from 'node:fs'
import { relative } from 'node:path'
import { RegainError } from '../../errors.ts'
import type { UnknownHostKey } from '../../operations/host-keys.ts'
import type { InitChoices, InitReport, WrittenConfigurationFiles } from '../../operations/init.ts'
import type { Register, Session } from '../cli.ts'
import { chooseByFlags, chooseByQuestions, type InitFlags } from '../init-choices.ts'

const EXAMPLES = `
Writes regain.yaml, never over an existing one, then makes the keys and repositories that it names. With a
configuration in place only what is missing is made, so it is safe to repeat. The only thing ever added to it is the
host key of an SFTP server that it does not name yet: shown first, and asked about at a terminal.

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
  const newHostKeys = await learnHostKeys(session, flags)
  const application = await session.application()
  const { init } = await import('../../operations/init.ts')
  const report = await init(application)
  tell(session, report, written)
  session.output.result({
    operation: 'init',
    isNewConfig: written !== null,
    createRole: written?.createRole ?? null,
    newHostKeys,
    ...report,
  })
  return 0
}

async function choose(session: Session, flags: InitFlags): Promise<InitChoices> {
  return canAsk(session, flags) ? chooseByQuestions(session, flags) : chooseByFlags(session, flags)
}

function canAsk({ host, output }: Session, flags: InitFlags): boolean {
  return !flags.yes && !output.isJson && host.stdin.isTTY === true && host.stderr.isTTY === true
}

/** Host keys that the configuration does not name are shown, and written into it if a person agrees or was not to be asked. */
async function learnHostKeys(session: Session, flags: InitFlags): Promise<UnknownHostKey[]> {
  const { trustHostKey, unknownHostKeys } = await import('../../operations/host-keys.ts')
  const application = await session.application()
  const unknown = await unknownHostKeys(application)
  for (const key of unknown) {
    const shown = `The server of ${key.destination} shows a host key of the type ${key.type}: ${key.fingerprint}`
    if (canAsk(session, flags)) {
      session.output.say(shown)
      await mustAgree(session, key)
    } else {
      session.output.warn(`${shown}. It is taken for the right one: compare it with the key of the server itself.`)
    }
    await trustHostKey(application, key)
    session.output.say(`Wrote it into ${application.config.path}: no other key is accepted from now on.`)
  }
  return unknown
}

async function mustAgree(session: Session, { destination }: UnknownHostKey): Promise<void> {
  const { Questions } = await import('../ask.ts')
  const questions = new Questions(session.host)
  try {
    if (await questions.isYes('Is that the fingerprint which the operator of the server gives?')) return
  } finally {
    questions.close()
  }
  throw new RegainError(
    'precondition-failed',
    `The host key of ${destination} was not agreed to. Nothing was sent to it.`,
    {
      hint: 'Print the right one on the server: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub',
    },
  )
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
