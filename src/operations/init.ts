import { type FileHandle, mkdir, open, rm } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { parseUrlOfHosts } from '../config/several-hosts.ts'
import { configurationTemplate } from '../config/template.ts'
import { RegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import type { Application } from './context.ts'
import { hasStoredObjects } from './repositories.ts'
import { type EnsuredRepository, initRepositories } from './repository.ts'
import { destinationsOf, selectTargets } from './targets.ts'

/** Where Debian's psql looks by itself. */
const DEBIAN_SOCKETS = '/var/run/postgresql'
const DEFAULT_PORT = 5432

const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

/** What a new configuration is to protect, as a person chose it. */
export interface InitChoices {
  service: string
  postgres: PostgresChoice | null
  /** Relative to the working directory or absolute. */
  files: string[]
  destination: string
}

export type PostgresChoice =
  /** As the person gave it. A password in it goes to a file of its own. */
  | { kind: 'url'; url: string }
  /** A server that was found, by its socket in `folder` if not null: a role and its password are made up. */
  | { kind: 'found'; folder: string | null; port: number }
  /** Connects as this user of the system over the socket, without a password. */
  | { kind: 'socket'; folder: string; port: number; user: string }

export interface WrittenConfigurationFiles {
  path: string
  /** Shell command that creates the role which was made up; null if none was. */
  createRole: string | null
}

/**
 * Writes a first configuration, and with it, readable by this user only, what must not stand in it. Rejects with
 * `precondition-failed` if there is one already; then, and after any failure, nothing is left behind.
 */
export async function writeConfiguration(
  path: string,
  choices: InitChoices,
  ambient: Pick<Ambient, 'randomBytes'>,
): Promise<WrittenConfigurationFiles> {
  checkChoices(choices)
  const directory = dirname(path)
  const made: string[] = []
  try {
    await mkdir(directory, { recursive: true })
    const connection = connectionOf(choices, ambient)
    let postgresUrl = connection?.url ?? null
    let createRole: string | null = null
    if (connection?.hasSecret) {
      const name = `${choices.service}-db.url`
      await writeNew(join(directory, name), `${connection.url}\n`, 0o600, made)
      postgresUrl = `file:${name}`
    }
    if (connection?.createRole) {
      const file = join(directory, `${choices.service}-db.sql`)
      await writeNew(file, connection.createRole, 0o600, made)
      createRole = `sudo -u postgres psql${connection.psqlOptions} < ${shellWord(file)}`
    }
    const text = configurationTemplate({
      service: choices.service,
      postgresUrl,
      files: choices.files.map((file) => resolve(file)),
      destination: resolve(choices.destination),
      key: relative(directory, join(directory, 'main.key')),
    })
    await writeNew(path, text, 0o644, made)
    return { path, createRole }
  } catch (error) {
    for (const file of made) await rm(file, { force: true })
    throw error
  }
}

export interface InitReport {
  config: string
  /** Names and paths or kinds of keys that were made now. */
  newKeys: { name: string; description: string }[]
  repositories: EnsuredRepository[]
}

/** Makes the keys and repositories that the configuration names and that are missing. Safe to repeat. */
export async function init(application: Application): Promise<InitReport> {
  const { config, drivers, ambient } = application
  const newKeys: InitReport['newKeys'] = []
  for (const { service } of selectTargets(config, undefined)) {
    const key = config.keys[service.key]!
    if (key.unresolved !== undefined) throw new RegainError('config-invalid', key.unresolved)
    if (key.type !== 'file' || (await drivers.hasKey(key))) continue
    for (const destination of destinationsOf(config, service)) {
      if (!(await hasStoredObjects(application, service, destination))) continue
      throw new RegainError(
        'key-unavailable',
        `The key file ${key.path} is missing, but ${destination.name} holds a repository of ${service.name} that needs it. ` +
          'A new key would not open it, so none was made.',
        { hint: 'Bring back the copy of the key that was kept elsewhere, or name another destination.' },
      )
    }
    if (await drivers.createKey(key, ambient)) newKeys.push({ name: key.name, description: `file ${key.path}` })
  }
  return { config: config.path, newKeys, repositories: await initRepositories(application, undefined) }
}

function checkChoices(choices: InitChoices): void {
  if (!NAME.test(choices.service)) {
    throw new RegainError('usage', `"${choices.service}" is not a name for a service. Nothing was written.`, {
      hint: 'Use a to z, 0 to 9 and hyphens inside, at most 63 characters.',
    })
  }
  if (choices.postgres === null && choices.files.length === 0) {
    throw new RegainError('usage', 'There is nothing to protect: no database and no folder was named or found.', {
      hint: 'Name one: regain init --postgres postgres://USER@HOST/DATABASE, or --files DIR.',
    })
  }
  if (choices.postgres?.kind === 'url') checkUrl(choices.postgres.url)
}

function checkUrl(url: string): void {
  if (url.startsWith('${') || url.startsWith('file:')) return
  if (/^postgres(?:ql)?:\/\//.test(url) && URL.canParse(url)) return
  throw new RegainError(
    'usage',
    '--postgres needs a URL such as postgres://USER@HOST:5432/DATABASE. Nothing was written.',
  )
}

interface Connection {
  url: string
  hasSecret: boolean
  createRole: string | null
  /** What psql needs to reach this server over its socket, with a leading space; empty where its defaults do. */
  psqlOptions: string
}

function connectionOf({ postgres }: InitChoices, ambient: Pick<Ambient, 'randomBytes'>): Connection | null {
  if (postgres === null) return null
  if (postgres.kind === 'url')
    return { url: postgres.url, hasSecret: hasPassword(postgres.url), createRole: null, psqlOptions: '' }
  if (postgres.kind === 'socket') {
    const { folder, port, user } = postgres
    const query = new URLSearchParams({ host: folder, port: String(port), user })
    return { url: `postgres:///postgres?${query}`, hasSecret: false, createRole: null, psqlOptions: '' }
  }
  // Hexadecimal: nothing in it needs quoting in SQL or in a URL.
  const password = ambient.randomBytes(18).toString('hex')
  return {
    url: `postgres://regain:${password}@127.0.0.1:${postgres.port}/postgres`,
    hasSecret: true,
    createRole:
      '-- Makes the role that Regain connects as. REPLICATION lets it read the whole cluster, as any backup must.\n' +
      `CREATE ROLE regain LOGIN REPLICATION PASSWORD '${password}';\n` +
      'GRANT pg_monitor TO regain;\n',
    psqlOptions: psqlOptions(postgres.folder, postgres.port),
  }
}

function psqlOptions(folder: string | null, port: number): string {
  const host = folder === null || folder === DEBIAN_SOCKETS ? '' : ` -h ${shellWord(folder)}`
  return port === DEFAULT_PORT ? host : `${host} -p ${port}`
}

/** For people to paste: quoted only where a shell would read it otherwise. */
function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

function hasPassword(text: string): boolean {
  // A reference: what it stands for is elsewhere.
  if (text.startsWith('${') || text.startsWith('file:')) return false
  const url = parseUrlOfHosts(text)?.url
  // What can't be read may well hold one.
  if (url === undefined) return true
  return url.password !== '' || url.searchParams.has('password')
}

async function writeNew(path: string, text: string, mode: number, made: string[]): Promise<void> {
  let handle: FileHandle
  try {
    handle = await open(path, 'wx', mode)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'EEXIST') {
      throw new RegainError(
        'precondition-failed',
        `${path} exists already, and is not replaced. Nothing was written.`,
        {
          hint: 'Use what is there, or move it away and try again.',
        },
      )
    }
    if (code === 'EACCES' || code === 'EROFS' || code === 'EPERM') {
      throw new RegainError('not-permitted', `${path} may not be written by this user. Nothing was written.`)
    }
    throw error
  }
  made.push(path)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
}
