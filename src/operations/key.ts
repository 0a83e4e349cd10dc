import type { DestinationConfiguration } from '../config/configuration.ts'
import { suggestion } from '../config/suggest.ts'
import { RegainError } from '../errors.ts'
import type { Application } from './context.ts'
import { notInThisVersion } from './failures.ts'
import { openKey, openServiceKey, withRepository } from './repositories.ts'
import { destinationsOf, selectTarget } from './targets.ts'

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
  const { service } = selectTarget(application.config, serviceName)
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
  const { service } = selectTarget(application.config, serviceName)
  const key = application.config.keys[keyName]
  if (key === undefined) {
    throw new RegainError(
      'usage',
      `There is no key "${keyName}"${suggestion(keyName, Object.keys(application.config.keys))}`,
      {
        hint: `Write it under keys: in ${application.config.path}, for example ${keyName}: { type: file, path: ${keyName}.key }`,
      },
    )
  }
  if (key.unresolved !== undefined) throw new RegainError('config-invalid', key.unresolved)
  // The key in use must open before another is made: else a wrong name would leave a stray key behind.
  await openServiceKey(application, service)
  const isNew = await application.drivers.createKey(key, application.ambient)
  const provider = await openKey(application, keyName)
  const destinations: string[] = []
  for (const destination of destinationsOf(application.config, service)) {
    await withRepository(application, service, destination, (repository) => repository.addKey(provider, keyName))
    destinations.push(destination.name)
  }
  return { service: service.name, key: keyName, isNew, destinations }
}

export interface ExportedKey {
  service: string
  destination: string
  kek: string
  label: string
  /** 64 hex digits. The secret itself: who has it and the repository has the data. */
  key: string
}

/** The raw key that the service is opened with, for recovery without Regain. */
export async function exportKey(application: Application, serviceName: string): Promise<ExportedKey> {
  const { service } = selectTarget(application.config, serviceName)
  const [destination] = destinationsOf(application.config, service) as [DestinationConfiguration]
  const provider = await openServiceKey(application, service)
  return withRepository(application, service, destination, async (repository) => {
    for (const wrapped of await repository.keys()) {
      if ((await provider.unwrap(wrapped, wrapped)) === null) continue
      const key = await provider.exportKey(wrapped, wrapped)
      if (key === null) break
      const about = { service: service.name, destination: destination.name }
      return { ...about, kek: wrapped.kek, label: wrapped.label, key: key.toString('hex') }
    }
    throw new RegainError('not-permitted', `${provider.description} does not give its key away.`, {
      hint: 'Add a key file as a second key (regain key add) and export that.',
    })
  })
}

/** Rotation needs the old key to lose its power, and this engine only adds keys. */
export function rotateKey(): never {
  throw notInThisVersion(
    'Taking a key out of a repository, which rotation ends with,',
    'A new key can be added (regain key add SERVICE KEY) and used from then on; the old one goes on opening the repository.',
  )
}
