import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { suggestion } from '../config/suggest.ts'
import { isRegainError, RegainError } from '../errors.ts'
import type { KeyProvider } from '../keys/contract.ts'
import type { Repository } from '../repository/api.ts'
import { tellsDestroyed } from '../repository/repository.ts'
import type { Application } from './context.ts'
import { openKey, openServiceKey, withRepository } from './repositories.ts'
import { destinationsOf, selectService } from './targets.ts'
import { eachTenant, tenantsOf } from './tenants.ts'

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

/** Lets another key of the configuration open the service's repositories, and its tenants', too; a key file that is missing is made. */
export async function addKey(application: Application, serviceName: string, keyName: string): Promise<AddedKey> {
  const service = selectService(application.config, serviceName)
  const { provider, isNew } = await openOrMakeKey(application, service, keyName)
  const add = async (one: ServiceConfiguration): Promise<void> => {
    for (const destination of destinationsOf(application.config, one))
      await withRepository(application, one, destination, (repository) => repository.addKey(provider, keyName))
  }
  await eachTenant(application, service, add)
  await add(service)
  const destinations = destinationsOf(application.config, service).map(({ name }) => name)
  return { service: service.name, key: keyName, isNew, destinations }
}

/** A key at one destination. */
interface KeyThere {
  destination: string
  kek: string
  label: string
}

export interface RemovedKey {
  service: string
  removed: KeyThere[]
  /** Could not be taken out yet: the store keeps their objects from being removed. */
  locked: KeyThere[]
}

/** `which`: the first digits of a key's name, or its label. The key that the configuration names for the service stays. */
export async function removeKey(application: Application, serviceName: string, which: string): Promise<RemovedKey> {
  const service = selectService(application.config, serviceName)
  const outcome = await removeFrom(application, service, which)
  // A tenant that came after the key never had it, and one that a removal cut short has lost it.
  await eachTenant(application, service, async (tenant) => {
    const { removed, locked } = await removeFrom(application, tenant, which, { mayLack: true })
    outcome.removed.push(...removed)
    outcome.locked.push(...locked)
  })
  return outcome
}

async function removeFrom(
  application: Application,
  service: ServiceConfiguration,
  which: string,
  { mayLack = false }: { mayLack?: boolean } = {},
): Promise<RemovedKey> {
  const own = await openServiceKey(application, service)
  const removed: KeyThere[] = []
  const locked: KeyThere[] = []
  for (const destination of destinationsOf(application.config, service))
    await withRepository(application, service, destination, async (repository) => {
      const keys = await repository.keys()
      const matches = keys.filter(({ kek, label }) => label === which || (which.length >= 4 && kek.startsWith(which)))
      const [match] = matches
      if (!match || matches.length > 1) {
        // The others may have lost it already, when this was cut short before.
        if (!match && (mayLack || removed.length + locked.length > 0)) return
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
      const there = { destination: destination.name, kek: match.kek, label: match.label }
      const list = (await removeUnlessLocked(repository, match.kek)) ? removed : locked
      list.push(there)
    })
  return { service: service.name, removed, locked }
}

async function removeUnlessLocked(repository: Repository, kek: string): Promise<boolean> {
  try {
    await repository.removeKey(kek)
    return true
  } catch (error) {
    if (isRegainError(error, 'storage-locked')) return false
    throw error
  }
}

export interface RotatedKey extends AddedKey {
  /** The KEKs that were taken out. */
  removed: KeyThere[]
  /** Could not be taken out yet: the store keeps their objects from being removed. */
  locked: KeyThere[]
}

/**
 * Puts another key of the configuration in the place of the one that the service is opened with. The old one is taken out
 * nowhere before the new one is durable everywhere, and has opened that repository: until then what fails leaves the old one
 * in use. Safe to repeat.
 */
export async function rotateKey(application: Application, serviceName: string, keyName: string): Promise<RotatedKey> {
  const service = selectService(application.config, serviceName)
  if (keyName === service.key)
    throw new RegainError('usage', `${service.name} is opened with the key ${keyName} already.`, {
      hint: 'Name the key that is to take its place.',
    })
  const { provider, isNew } = await openOrMakeKey(application, service, keyName)
  const all = { removed: [] as KeyThere[], locked: [] as KeyThere[] }
  // The service comes last: as long as the configuration names the old key, that finds what is left to do.
  await eachTenant(application, service, async (tenant) => {
    const { removed, locked } = await rotateOne(application, tenant, keyName, provider)
    all.removed.push(...removed)
    all.locked.push(...locked)
  })
  const { destinations, removed, locked } = await rotateOne(application, service, keyName, provider)
  all.removed.push(...removed)
  all.locked.push(...locked)
  return { service: service.name, key: keyName, isNew, destinations, ...all }
}

async function rotateOne(
  application: Application,
  service: ServiceConfiguration,
  keyName: string,
  provider: KeyProvider,
): Promise<Pick<RotatedKey, 'destinations' | 'removed' | 'locked'>> {
  const old = await openServiceKey(application, service)
  const places = destinationsOf(application.config, service)
  const keks = new Map<string, string>()
  for (const place of places) {
    // By either: what was cut short before may have got this far.
    const add = (repository: Repository) => repository.addKey(provider, keyName)
    keks.set(place.name, await withRepository(application, service, place, add, [old, provider]))
  }
  const removed: KeyThere[] = []
  const locked: KeyThere[] = []
  for (const place of places) {
    const removeOld = async (repository: Repository) => {
      for (const key of await repository.keys()) {
        if (key.kek === keks.get(place.name) || (await old.unwrap(key, key)) === null) continue
        const list = (await removeUnlessLocked(repository, key.kek)) ? removed : locked
        list.push({ destination: place.name, kek: key.kek, label: key.label })
      }
    }
    await withRepository(application, service, place, removeOld, [provider])
  }
  return { destinations: [...keks.keys()], removed, locked }
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
    /** The service, or a tenant of it. */
    service: string
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
  // The service comes last: it alone knows which tenants there are.
  for (const tenant of await knownTo(application, service)) await destroyOne(application, tenant, destroyed)
  await destroyOne(application, service, destroyed)
  return { service: service.name, destroyed }
}

/** None, where its own keys are gone already: then those of its tenants went before. */
async function knownTo(application: Application, service: ServiceConfiguration): Promise<ServiceConfiguration[]> {
  try {
    return await tenantsOf(application, service)
  } catch (error) {
    if (tellsDestroyed(error)) return []
    throw error
  }
}

async function destroyOne(
  application: Application,
  service: ServiceConfiguration,
  destroyed: DestroyedKeys['destroyed'],
): Promise<void> {
  const about = { service: service.name }
  const open: DestinationConfiguration[] = []
  for (const place of destinationsOf(application.config, service)) {
    const proof = await refuseLocked(application, service, place)
    if (proof === null) open.push(place)
    else destroyed.push({ ...about, destination: place.name, objects: [], proof })
  }
  for (const place of open) {
    try {
      const objects = await withRepository(application, service, place, (repository) => repository.destroyKeys())
      const proof = await proveClosed(application, service, place)
      destroyed.push({ ...about, destination: place.name, objects, proof })
    } catch (error) {
      throw tellWhatIsGone(error, place.name, destroyed)
    }
  }
}

/** Before anything is destroyed anywhere. Gives what a repository says whose keys are gone already; else null. */
async function refuseLocked(
  application: Application,
  service: ServiceConfiguration,
  place: DestinationConfiguration,
): Promise<string | null> {
  let locked: string[]
  try {
    locked = await withRepository(application, service, place, (repository) => repository.lockedKeys())
  } catch (error) {
    if (tellsDestroyed(error)) return error.message
    throw error
  }
  if (locked.length === 0) return null
  throw new RegainError(
    'storage-locked',
    `The store of ${place.name} keeps ${locked.length} objects below keys/ from being removed. Nothing was destroyed, at any destination.`,
    {
      hint: 'Destroy the keys that you hold (the key in Vault or KMS, the key file and its copies), or give the command again when the lock has ended.',
    },
  )
}

function tellWhatIsGone(error: unknown, failed: string, destroyed: DestroyedKeys['destroyed']): unknown {
  if (!isRegainError(error) || destroyed.length === 0) return error
  const gone = destroyed.map(({ service, destination }) => `${service} at ${destination}`).join(', ')
  return new RegainError(
    error.code,
    `${error.message} So the backups at ${failed} may still be readable; those at ${gone} are destroyed.`,
    { hint: `${error.hint} Then give the same command again: it goes on where it stopped.`, cause: error },
  )
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
