import { join } from 'node:path'
import { discoverPostgres, type FoundServer } from '../operations/discover.ts'
import type { InitChoices, PostgresChoice } from '../operations/init.ts'
import { Questions } from './ask.ts'
import type { Session } from './cli.ts'

export interface InitFlags {
  yes?: boolean
  service?: string
  postgres?: string
  files?: string[]
  destination?: string
}

const DEFAULT_SERVICE = 'app'

/** What options say; without --postgres, a server that was found is taken. Never asks. */
export async function chooseByFlags(session: Session, flags: InitFlags): Promise<InitChoices> {
  let postgres: PostgresChoice | null = flags.postgres === undefined ? null : { kind: 'url', url: flags.postgres }
  if (postgres === null && flags.files === undefined) {
    const found = (await discoverPostgres(session.host.environment))[0]
    if (found !== undefined) {
      session.output.say(`Found PostgreSQL at ${found.description}.`)
      postgres = choiceOf(found, session)
    }
  }
  return {
    service: flags.service ?? DEFAULT_SERVICE,
    postgres,
    files: flags.files ?? [],
    destination: flags.destination ?? defaultDestination(session),
  }
}

/** Asks a person at a terminal for what the options leave open. */
export async function chooseByQuestions(session: Session, flags: InitFlags): Promise<InitChoices> {
  const { output } = session
  const questions = new Questions(session.host)
  try {
    output.say('A service is what is protected and restored as one: an application with its database and its files.')
    const service = flags.service ?? (await questions.text('Name of the service', DEFAULT_SERVICE))
    const postgres: PostgresChoice | null =
      flags.postgres === undefined ? await askForPostgres(session, questions) : { kind: 'url', url: flags.postgres }
    const files = flags.files ?? (await askForFiles(questions))
    output.say('Backups go to a directory; best is a disk of another machine.')
    const destination =
      flags.destination ?? (await questions.text('Directory for the backups', defaultDestination(session)))
    return { service, postgres, files, destination }
  } finally {
    questions.close()
  }
}

async function askForPostgres(session: Session, questions: Questions): Promise<PostgresChoice | null> {
  for (const found of await discoverPostgres(session.host.environment)) {
    if (await questions.isYes(`PostgreSQL answers at ${found.description}. Protect it?`))
      return choiceOf(found, session)
  }
  const url = await questions.text(
    'URL of a PostgreSQL to protect, postgres://USER@HOST:5432/postgres (empty: none)',
    '',
  )
  return url === '' ? null : { kind: 'url', url }
}

async function askForFiles(questions: Questions): Promise<string[]> {
  const files: string[] = []
  for (;;) {
    const file = await questions.text(
      `Directory of files to protect (empty: ${files.length === 0 ? 'none' : 'no more'})`,
      '',
    )
    if (file === '') return files
    files.push(file)
  }
}

/** Debian lets a system user in as the role of the same name; everyone else needs a role with a password. */
function choiceOf(found: FoundServer, session: Session): PostgresChoice {
  const user = session.host.environment.USER ?? session.host.environment.LOGNAME
  if (user === 'postgres' && found.host.startsWith('/'))
    return { kind: 'socket', folder: found.host, port: found.port, user }
  return { kind: 'found', folder: found.host.startsWith('/') ? found.host : null, port: found.port }
}

function defaultDestination(session: Session): string {
  const { environment, userId } = session.host
  if (userId === 0) return '/var/backups/regain'
  const data = environment.XDG_DATA_HOME ?? (environment.HOME ? join(environment.HOME, '.local/share') : '/var/lib')
  return join(data, 'regain/backups')
}
