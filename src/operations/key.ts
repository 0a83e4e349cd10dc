import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { suggestion } from '../config/suggest.ts'
import { isRegainError, RegainError } from '../errors.ts'
import type { KeyProvider } from '../keys/contract.ts'
import type { Application } from './context.ts'
import { openKey, openServiceKey, withRepository } from './repositories.ts'
import { destinationsOf, selectService } from './targets.ts'

export interface ListedKey {
  service: string
  destination: string
  type: string
  /** Names the KEK without revealing it. */
  kek: string
  label: string
  addedAt: string
}

/** The keys that can open each repository of a service. */
export async function listKeys(application: Application, serviceName: string): Promise<ListedKey[]> {
  const service = selectService(application.config, serviceName)
  const listed: ListedKey[] = []
  for (const destination of destinationsOf(application.config, service)) {
    const keys = await withRepository(application, service, destination, (repository) => repository.keys())
    const about = { service: service.name, destination: destination.name }
    listed.push(...keys.map(({ type, kek, label, addedAt }) => ({ ...about, type, kek, label, addedAt })))
  }
  return listed
}

export interface AddedKey {
  service: string
  key: string
  /** The key itself was made now. */
  isNew: boolean
  destinations: string[]
}

/** Lets another key of the configuration open the service's repositories too; a key file that is missing is made. */
export async function addKey(application: Application, serviceName: string, keyName: string): Promise<AddedKey> {
  const service = selectService(application.config, serviceName)
  const { provider, isNew } = await openOrMakeKey(application, service, keyName)
  const destinations: string[] = []
  for (const destination of destinationsOf(application.config, service)) {
    await withRepository(application, service, destination, (repository) => repository.addKey(provider, keyName))
    destinations.push(destination.name)
  }
  return { service: service.name, key: keyName, isNew, destinations }
}

export interface RemovedKey {
  service: string
  removed: { destination: string; kek: string; label: string }[]
}

/** `which`: the first digits of a key's name, or its label. The key that the configuration names for the service stays. */
export async function removeKey(application: Application, serviceName: string, which: string): Promise<RemovedKey> {
  const service = selectService(application.config, serviceName)
  const own = await openServiceKey(application, service)
  const removed: RemovedKey['removed'] = []
  for (const destination of destinationsOf(application.config, service))
    await withRepository(application, service, destination, async (repository) => {
      const keys = await repository.keys()
      const matches = keys.filter(({ kek, label }) => label === which || (which.length >= 4 && kek.startsWith(which)))
      const [match] = matches
      if (!match || matches.length > 1) {
        // The others may have lost it already, when this was cut short before.
        if (!match && removed.length > 0) return
        throw new RegainError(
          'precondition-failed',
          `${matches.length === 0 ? 'No key' : 'More than one key'} of ${service.name} at ${destination.name} is called ${which}. Nothing was changed there.`,
          { hint: `See which keys there are: regain key list ${service.name}` },
        )
      }
      if (keys.length > 1 && (await own.unwrap(match, match)) !== null)
        throw new RegainError(
          'precondition-failed',
          `The key ${match.kek} is the one that ${service.name} is opened with. It was not taken out.`,
          {
            hint: `Name another key of it in ${application.config.path} first, or run: regain key rotate ${service.name} KEY`,
          },
        )
      await repository.removeKey(match.kek)
      removed.push({ destination: destination.name, kek: match.kek, label: match.label })
    })
  return { service: service.name, removed }
}

export interface RotatedKey extends AddedKey {
  /** The KEKs that were taken out. */
  removed: { destination: string; kek: string; label: string }[]
}

/**
 * Puts another key of the configuration in the place of the one that the service is opened with. At each destination the
 * new one is durable, and has opened the repository, before the old one is taken out. Safe to repeat.
 */
export async function rotateKey(application: Application, serviceName: string, keyName: string): Promise<RotatedKey> {
  const service = selectService(application.config, serviceName)
  if (keyName === service.key)
    throw new RegainError('usage', `${service.name} is opened with the key ${keyName} already.`, {
      hint: 'Name the key that is to take its place.',
    })
  const { provider, isNew } = await openOrMakeKey(application, service, keyName)
  const old = await openServiceKey(application, service)
  const destinations: string[] = []
  const removed: RotatedKey['removed'] = []
  for (const destination of destinationsOf(application.config, service)) {
    // By either: what was cut short before may have got this far.
    const kek = await withRepository(
      application,
      service,
      destination,
      (repository) => repository.addKey(provider, keyName),
      [old, provider],
    )
    await withRepository(
      application,
      service,
      destination,
      async (repository) => {
        for (const key of await repository.keys()) {
          if (key.kek === kek || (await old.unwrap(key, key)) === null) continue
          await repository.removeKey(key.kek)
          removed.push({ destination: destination.name, kek: key.kek, label: key.label })
        }
      },
      [provider],
    )
    destinations.push(destination.name)
  }
  return { service: service.name, key: keyName, isNew, destinations, removed }
}

async function openOrMakeKey(
  application: Application,
  service: ServiceConfiguration,
  keyName: string,
): Promise<{ provider: KeyProvider; isNew: boolean }> {
  const { config } = application
  const key = Object.hasOwn(config.keys, keyName) ? config.keys[keyName] : undefined
  if (key === undefined)
    throw new RegainError('usage', `There is no key "${keyName}"${suggestion(keyName, Object.keys(config.keys))}`, {
      hint: `Write it under keys: in ${config.path}, for example ${keyName}: { type: file, path: ${keyName}.key }`,
    })
  if (key.unresolved !== undefined) throw new RegainError('config-invalid', key.unresolved)
  // The key in use must open before another is made: else a wrong name would leave a stray key behind.
  await openServiceKey(application, service)
  const isNew = await application.drivers.createKey(key, application.ambient)
  return { provider: await openKey(application, keyName), isNew }
}

export interface DestroyedKeys {
  service: string
  destroyed: {
    destination: string
    /** Names of the key objects that were removed. */
    objects: string[]
    /** What the repository says to whoever opens it now, with the key that opened it before. */
    proof: string
  }[]
}

/**
 * Makes a service's backups unreadable for ever by destroying every wrapped form of its data keys, and proves it: the key
 * that opened each repository must open it no longer. `again` repeats the service's name.
 */
export async function destroyKeys(
  application: Application,
  serviceName: string,
  again: string,
): Promise<DestroyedKeys> {
  const service = selectService(application.config, serviceName)
  if (again !== service.name)
    throw new RegainError('usage', `The service's name must be given twice, and "${again}" is not ${service.name}.`)
  const destroyed: DestroyedKeys['destroyed'] = []
  for (const destination of destinationsOf(application.config, service)) {
    const objects = await withRepository(application, service, destination, (repository) => repository.destroyKeys())
    const proof = await proveClosed(application, service, destination)
    destroyed.push({ destination: destination.name, objects, proof })
  }
  return { service: service.name, destroyed }
}

async function proveClosed(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
): Promise<string> {
  try {
    await withRepository(application, service, destination, async () => undefined)
  } catch (error) {
    if (isRegainError(error, 'repository-damaged')) return error.message
    throw error
  }
  throw new RegainError(
    'repository-damaged',
    `The repository at ${destination.name} still opens: a key was added meanwhile.`,
    {
      hint: 'Run the same command again.',
    },
  )
}

/** Makes a key file at `path` of the text of one, or of a printed key as a person typed it in. */
export async function importKey(application: Pick<Application, 'drivers'>, path: string, text: string): Promise<void> {
  await application.drivers.importKeyFile(path, text)
}

export interface ExportedKey {
  service: string
  destination: string
  kek: string
  label: string
  /** 64 hex digits. The secret itself: who has it and the repository has the data. */
  key: string
  /** The same for paper. */
  printable: string
}

/** The raw key that the service is opened with, for recovery without Regain. */
export async function exportKey(application: Application, serviceName: string): Promise<ExportedKey> {
  const service = selectService(application.config, serviceName)
  const [destination] = destinationsOf(application.config, service) as [DestinationConfiguration]
  const provider = await openServiceKey(application, service)
  return withRepository(application, service, destination, async (repository) => {
    for (const wrapped of await repository.keys()) {
      if ((await provider.unwrap(wrapped, wrapped)) === null) continue
      const key = await provider.exportKey(wrapped, wrapped)
      if (key === null) break
      const about = { service: service.name, destination: destination.name }
      const written = new Date(application.ambient.now()).toISOString().slice(0, 10)
      const heading = [`service ${service.name}, key ${wrapped.label} (${wrapped.kek}), printed ${written}`]
      const printable = await application.drivers.printKey(key, heading)
      return { ...about, kek: wrapped.kek, label: wrapped.label, key: key.toString('hex'), printable }
    }
    throw new RegainError('not-permitted', `${provider.description} does not give its key away.`, {
      hint: 'Add a key file as a second key (regain key add) and export that.',
    })
  })
}
