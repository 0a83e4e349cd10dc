import { randomBytes } from 'node:crypto'
import { constants, existsSync, readFileSync, writeSync } from 'node:fs'
import { access, statfs } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { runCli } from './cli/cli.ts'
import type { Host } from './cli/host.ts'
import type { Configuration, DestinationConfiguration, PostgresConfiguration } from './config/configuration.ts'
import { ERRORS, RegainError } from './errors.ts'
import type { Ambient } from './model.ts'
import type { Drivers, SourceRequest, StorageRequest } from './operations/context.ts'
import { fetchLogCommand } from './operations/fetch-log-command.ts'
import { thisProcess } from './process.ts'
import type { Storage } from './storage/contract.ts'

/**
 * The composition root: the one file that reads the clock, the environment and global randomness, and that knows every
 * driver. A driver's code is loaded when it is first needed, which keeps every other start fast.
 */
export const drivers: Drivers = {
  createStorage: (request) => openPlace(request, true),

  openStorage: (request) => openPlace(request, false),

  async inspectDestination(destination, service) {
    if (destination.type !== 'local') return { freeBytes: null, isWritable: null }
    const directory = join(destination.path, service)
    const isWritable = await access(directory, constants.W_OK | constants.X_OK).then(
      () => true,
      () => false,
    )
    const { bavail, bsize } = await statfs(directory)
    return { freeBytes: bavail * bsize, isWritable }
  },

  async unknownHostKey(destination) {
    if (destination.type !== 'sftp' || destination.hostKey !== null) return null
    const { askForHostKey } = await import('./storage/sftp-connection.ts')
    return askForHostKey(destination.host, destination.port)
  },

  async hasKey(key) {
    return key.type !== 'file' || existsSync(key.path)
  },

  async isKeyExposed(key) {
    if (key.type !== 'file') return false
    const { keyFileTooOpen } = await import('./keys/file.ts')
    return keyFileTooOpen(key.path)
  },

  async createKey(key, ambient) {
    if (key.type !== 'file' || existsSync(key.path)) return false
    const { createKeyFile } = await import('./keys/file.ts')
    await createKeyFile(key.path, ambient.randomBytes)
    return true
  },

  async openKey(key, ambient) {
    if (key.type === 'file') {
      const { openKeyFile } = await import('./keys/file.ts')
      return openKeyFile(key.path)
    }
    if (key.type === 'vault') {
      const { openVaultKey } = await import('./keys/vault.ts')
      return openVaultKey(key)
    }
    if (key.type === 'aws-kms') {
      const { openAwsKmsKey } = await import('./keys/aws-kms.ts')
      return openAwsKmsKey(key)
    }
    const { openPassphrase } = await import('./keys/passphrase.ts')
    return openPassphrase(async () => key.passphrase, ambient.randomBytes)
  },

  async importKeyFile(path, text) {
    const { importKeyFile } = await import('./keys/file.ts')
    await importKeyFile(path, text)
  },

  async printKey(kek, about) {
    const { paperText } = await import('./keys/paper.ts')
    return paperText(kek, about)
  },

  async createSource(request) {
    const { source, ambient } = request
    if (source.type === 'files') {
      const { createFilesSource } = await import('./sources/files/source.ts')
      return createFilesSource(source, ambient, { skip: ownFolders(request) })
    }
    if (source.type === 'postgres-tenants') {
      const { createPostgresTenantsSource } = await import('./sources/postgres-tenants/source.ts')
      const { rules, tenant } = source
      return createPostgresTenantsSource({ url: urlOf(source), rules, isOne: tenant !== undefined })
    }
    const search = { directories: source.programs === undefined ? [] : [source.programs], path: process.env.PATH }
    if (source.type === 'postgres-dump') {
      const { createPostgresDumpSource } = await import('./sources/postgres-dump/source.ts')
      const context = { ambient, search, path: process.env.PATH ?? '', environment: clientEnvironment(process.env) }
      return createPostgresDumpSource({ ...source, url: urlOf(source) }, context)
    }
    const { createPostgresSource } = await import('./sources/postgres/source.ts')
    const slotsInUse = await slotsOf(request.config)
    return createPostgresSource(
      { ...(await postgresConfig(request, source)), slotsInUse },
      {
        log: request.log,
        ambient,
        fetchCommand: fetchLogCommand(request),
        search,
        clientEnvironment: clientEnvironment(process.env),
      },
    )
  },

  async checkSettings({ service, source }) {
    if (source.type === 'files') return
    const { parseServerUrl } = await import('./sources/postgres/protocol/connection-url.ts')
    parseServerUrl(urlOf(source))
    if (source.type === 'postgres-dump') {
      const { tablePattern } = await import('./sources/postgres-dump/tables.ts')
      source.exclude.forEach(tablePattern)
    } else if (source.type === 'postgres-tenants') {
      const { checkRules } = await import('./sources/postgres-tenants/rules.ts')
      checkRules(source.rules)
    } else {
      const { checkSlotName } = await import('./sources/postgres/log/slot.ts')
      checkSlotName((await postgresConfig({ service }, source)).slot)
    }
  },

  async createFollower(request) {
    const { source } = request
    if (source.type !== 'postgres' || source.log !== 'continuous') return null
    const { createLogFollower } = await import('./sources/postgres/log/follower.ts')
    const config = { ...(await postgresConfig(request, source)), tailMs: source.tailMs }
    return createLogFollower(config, request.log, request.ambient)
  },

  async createLogGuard({ service, source }) {
    if (source.type !== 'postgres' || source.log !== 'continuous') return null
    const { createLogGuard } = await import('./sources/postgres/log/log-guard.ts')
    const { FEW_BYTES } = await import('./policy/kept-log.ts')
    return createLogGuard({ ...(await postgresConfig({ service }, source)), askSizeFromBytes: FEW_BYTES })
  },

  async fetchLog(source, request) {
    if (source.type !== 'postgres') throw new RegainError('usage', `${source.name} is a source without a log.`)
    const { fetchLog } = await import('./sources/postgres/recovery/fetch.ts')
    return fetchLog(request)
  },

  async pushLog(source, request) {
    if (source.type !== 'postgres') throw new RegainError('usage', `${source.name} is files, which have no log.`)
    const { pushLog } = await import('./sources/postgres/log/push.ts')
    return (await pushLog(request)) === 'stored'
  },

  async planRecovery({ source, log }, points, at, signal) {
    if (source.type !== 'postgres') return null
    const { logBytesOf, planRecovery } = await import('./sources/postgres/recovery/recovery-log.ts')
    const plan = await planRecovery(points, log, at, signal)
    return { ...plan, logBytes: logBytesOf(plan, points) }
  },

  async planTarget(source, point, request) {
    if (source.type !== 'postgres') return { beside: [], steps: [], notes: [] }
    const { planTarget } = await import('./sources/postgres/recovery/restore.ts')
    return planTarget(point, request)
  },

  async leftOutBeside(source, point, wanted, signal) {
    if (source.type !== 'postgres') return []
    const { leftOutBeside } = await import('./sources/postgres/recovery/only-databases.ts')
    return leftOutBeside(point, wanted, signal)
  },

  async unneededLog({ source, log }, points) {
    if (source.type !== 'postgres') return null
    const { unneededLogOf } = await import('./sources/postgres/recovery/recovery-log.ts')
    return unneededLogOf(points, log)
  },

  async recoveryWindows({ source, log }, points) {
    if (source.type !== 'postgres') return null
    const { recoveryWindows } = await import('./sources/postgres/recovery/recovery-log.ts')
    return recoveryWindows(points, log)
  },

  async pointGaps(sourceType, log, points) {
    if (sourceType !== 'postgres') return []
    const { pointGaps } = await import('./sources/postgres/recovery/recovery-log.ts')
    return pointGaps(points, log)
  },

  async searchLog({ source, log }, search, reporting) {
    if (source.type !== 'postgres') throw new RegainError('usage', `${source.name} is a source without a log.`)
    const { searchLog } = await import('./sources/postgres/search/search.ts')
    return searchLog({ ...search, store: log }, reporting)
  },
}

/** Where PostgreSQL's clients find a password that a URL does not hold. */
function clientEnvironment(environment: NodeJS.ProcessEnv): Record<string, string> {
  const names = ['HOME', 'PGPASSWORD', 'PGPASSFILE', 'KRB5CCNAME']
  return Object.fromEntries(
    names.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]]])),
  )
}

/** `make`: the place may be missing. A bucket or an account never is made. */
async function openPlace({ destination, service, state, ambient }: StorageRequest, make: boolean): Promise<Storage> {
  if (destination.type === 'local') {
    const { createLocalStorage, openLocalStorage } = await import('./storage/local.ts')
    const directory = join(destination.path, service)
    return make ? createLocalStorage(directory, ambient) : openLocalStorage(directory, ambient)
  }
  const { remoteStorage } = await import('./storage/remote.ts')
  return remoteStorage(await openRemote(destination, service, ambient, make), {
    limits: destination.limits,
    ambient,
    cacheDirectory: join(state, 'cache'),
  })
}

async function openRemote(
  destination: Exclude<DestinationConfiguration, { type: 'local' }>,
  service: string,
  ambient: Ambient,
  make: boolean,
): Promise<Storage> {
  if (destination.type === 'sftp') {
    const { createSftpStorage, openSftpStorage } = await import('./storage/sftp.ts')
    const place = { ...destination, path: posix.join(destination.path, service) }
    return make ? createSftpStorage(place, ambient) : openSftpStorage(place, ambient)
  }
  const prefix = destination.prefix === undefined ? `${service}/` : `${destination.prefix}/${service}/`
  switch (destination.type) {
    case 's3':
      return (await import('./storage/s3.ts')).openS3Storage({ ...destination, prefix }, ambient, { make })
    case 'azure':
      return (await import('./storage/azure.ts')).openAzureStorage({ ...destination, prefix })
    case 'gcs':
      return (await import('./storage/gcs.ts')).openGcsStorage({ ...destination, prefix }, ambient)
  }
}

/** Only a restore gets here without what the URL refers to, and it does not connect. */
function urlOf(source: { url: string; unresolved?: string }): string {
  return source.unresolved === undefined ? source.url : 'postgres://postgres@localhost/postgres'
}

async function postgresConfig({ service }: Pick<SourceRequest, 'service'>, source: PostgresConfiguration) {
  const { defaultSlotName } = await import('./sources/postgres/log/slot.ts')
  return {
    url: urlOf(source),
    log: source.log,
    slot: source.slot ?? defaultSlotName(service.name, source.name),
    fingerprint: source.fingerprint,
  }
}

async function slotsOf({ services }: Configuration): Promise<string[]> {
  const { defaultSlotName } = await import('./sources/postgres/log/slot.ts')
  return Object.values(services).flatMap((service) =>
    Object.values(service.sources).flatMap((source) =>
      source.type === 'postgres' && source.log === 'continuous'
        ? [source.slot ?? defaultSlotName(service.name, source.name)]
        : [],
    ),
  )
}

/** What a backup of files must never take in: what it writes itself, which would grow while it is read. */
function ownFolders({ config }: SourceRequest): string[] {
  const places = Object.values(config.destinations)
  return [config.state, ...places.flatMap((place) => (place.type === 'local' ? [place.path] : []))]
}

const home = join(import.meta.dirname, '..')

if (import.meta.main) {
  // Set by the launcher for this process, and read before it began: no server or command that is started here is to have it.
  if (process.env.MALLOC_ARENA_MAX === '2') delete process.env.MALLOC_ARENA_MAX
  process.on('uncaughtException', endWithBug)
  process.exitCode = await runCli(process.argv.slice(2), hostOfThisProcess())
}

function hostOfThisProcess(): Host {
  const { signal, onHangUp } = listenToSignals()
  return {
    version: (JSON.parse(readFileSync(join(home, 'package.json'), 'utf8')) as { version: string }).version,
    ambient: { now: Date.now, randomBytes, ...thisProcess() },
    environment: process.env,
    drivers: endingWith(signal),
    launcher: join(home, 'regain'),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    signal,
    onHangUp,
    processId: process.pid,
    userId: process.getuid?.() ?? null,
  }
}

/** The drivers, whose stores hold up nobody for long who interrupts. */
function endingWith(signal: AbortSignal): Drivers {
  const ending = async (storage: Promise<Storage>): Promise<Storage> => {
    const { withInterruption } = await import('./storage/interruption.ts')
    return withInterruption(await storage, signal)
  }
  return {
    ...drivers,
    createStorage: (request) => ending(drivers.createStorage(request)),
    openStorage: (request) => ending(drivers.openStorage(request)),
  }
}

/** Whatever escapes every handler, a rejection nobody awaited included: told as the bug it is, and never a success. */
function endWithBug(error: unknown): never {
  const { hint } = ERRORS.internal
  const message = `An unexpected error: ${error instanceof Error ? error.message : String(error)}`
  const stack = error instanceof Error ? error.stack : ''
  const line = { type: 'error', code: 'internal', message, hint, retryable: false }
  if (process.argv.includes('--json')) writeSync(1, `${JSON.stringify(line)}\n`)
  writeSync(2, `Error: ${message}\n  ${hint}\n${stack}\n`)
  process.exit(ERRORS.internal.exit)
}

/**
 * The first signal lets everything end cleanly; the second one ends the process at once. SIGHUP is for whoever listens
 * to it, and otherwise the terminal that went away.
 */
function listenToSignals(): Pick<Host, 'signal' | 'onHangUp'> {
  const controller = new AbortController()
  const hangUpListeners = new Set<() => void>()
  const interrupt = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(130)
    controller.abort(new Error(name))
  }
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', interrupt)
  const hangUp = (name: NodeJS.Signals) => {
    if (hangUpListeners.size === 0) interrupt(name)
    for (const listener of hangUpListeners) listener()
  }
  // A handler would undo what nohup did.
  if (!isHangUpIgnored()) process.on('SIGHUP', hangUp)
  return {
    signal: controller.signal,
    onHangUp(listener) {
      if (hangUpListeners.size === 0 && process.listenerCount('SIGHUP') === 0) process.on('SIGHUP', hangUp)
      hangUpListeners.add(listener)
      return () => hangUpListeners.delete(listener)
    },
  }
}

/** Bit 0 of the mask of ignored signals is SIGHUP: proc(5). */
function isHangUpIgnored(): boolean {
  try {
    const mask = /^SigIgn:\s*[0-9a-f]*([0-9a-f])$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
    return (Number.parseInt(mask, 16) & 1) === 1
  } catch {
    // Not Linux, or no /proc: the ordinary case is that nobody ignores it.
    return false
  }
}
