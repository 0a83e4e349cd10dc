import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { isRegainError, RegainError } from '../errors.ts'
import type { KeyProvider } from '../keys/contract.ts'
import type { Repository } from '../repository/api.ts'
import { createRepository, openRepository } from '../repository/repository.ts'
import { checkStorage, clockSkew, SCRATCH } from '../storage/check-storage.ts'
import type { Storage } from '../storage/contract.ts'
import type { Application, StorageRequest } from './context.ts'
import { rememberMade } from './seen.ts'

/** Opens a service's repository at one destination, hands it to `use`, and closes it whatever happens. */
export async function withRepository<T>(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  use: (repository: Repository) => Promise<T>,
  /** The service's own key if left out. */
  keys?: readonly KeyProvider[],
): Promise<T> {
  const providers = keys ?? [await openServiceKey(application, service)]
  const storage = await openPlace(application, service, destination)
  try {
    const repository = await openRepository({ storage, keys: [...providers], ambient: application.ambient })
    try {
      if (repository.service !== service.name) {
        throw new RegainError(
          'precondition-failed',
          `${storage.description} holds the repository of the service ${repository.service}, not of ${service.name}. Nothing was read or written.`,
          { hint: 'Correct the destination in the configuration.' },
        )
      }
      return await use(repository)
    } finally {
      await repository.close()
    }
  } finally {
    await storage.close()
  }
}

/** Like withRepository, for the store alone. */
export async function withPlace<T>(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  use: (storage: Storage) => Promise<T>,
): Promise<T> {
  const storage = await openPlace(application, service, destination)
  try {
    return await use(storage)
  } finally {
    await storage.close()
  }
}

/** Makes the repository; false if it was there already. The key must exist. `isTried`: the store itself is known to be good. */
export async function ensureRepository(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
  { isTried = false }: { isTried?: boolean } = {},
): Promise<boolean> {
  const key = await openServiceKey(application, service)
  checkResolved(destination)
  const storage = await makePlace(application, service, destination)
  try {
    if (!isTried && !(await holdsAnything(storage))) await refuseUnsuitable(application, storage)
    const repository = await createRepository({
      storage,
      keys: [key],
      ambient: application.ambient,
      service: service.name,
      label: service.key,
    })
    try {
      await rememberMade(application, repository)
    } finally {
      await repository.close()
    }
    return true
  } catch (error) {
    if (isRegainError(error, 'repository-exists')) return false
    throw error
  } finally {
    await storage.close()
  }
}

/** Whether anything is stored at the place of a service's repository. */
export async function hasStoredObjects(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
): Promise<boolean> {
  let storage: Awaited<ReturnType<typeof openPlace>>
  try {
    storage = await openPlace(application, service, destination)
  } catch (error) {
    if (isRegainError(error, 'repository-not-found')) return false
    throw error
  }
  try {
    return await holdsAnything(storage)
  } finally {
    await storage.close()
  }
}

export async function openServiceKey(application: Application, service: ServiceConfiguration): Promise<KeyProvider> {
  return openKey(application, service.key)
}

/** Opens a key of the configuration by its name, which must be there. */
export async function openKey(application: Application, name: string): Promise<KeyProvider> {
  const key = application.config.keys[name]!
  if (key.unresolved !== undefined) throw new RegainError('config-invalid', key.unresolved)
  return application.drivers.openKey(key, application.ambient)
}

async function openPlace(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
) {
  checkResolved(destination)
  try {
    return await application.drivers.openStorage(storageRequest(application, service, destination))
  } catch (error) {
    if (!isRegainError(error, 'storage-not-found')) throw error
    throw new RegainError(
      'repository-not-found',
      `There is no repository of ${service.name} at the destination ${destination.name}. ${error.message}`,
      // The driver knows whether it is a disk, a bucket or a folder that is missing.
      { hint: error.hint, cause: error },
    )
  }
}

/** Beside what checks of the store leave. */
async function holdsAnything(storage: Storage): Promise<boolean> {
  for await (const { name } of storage.list('')) if (!name.startsWith(`${SCRATCH}/`)) return true
  return false
}

/** A store that would lose data is found out before there is any. */
async function refuseUnsuitable({ ambient }: Application, storage: Storage): Promise<void> {
  const skew = await clockSkew(storage, ambient)
  if (skew !== null) ambient.log('warning', skew)
  const broken = (await checkStorage(storage, ambient)).filter((finding) => finding.broken !== null)
  if (broken.length === 0) return
  const lines = broken.map(
    ({ what, broken: seen, otherwise }) => `  It must be so that it ${what}. But ${seen}. ${otherwise}`,
  )
  throw new RegainError(
    'storage-unsuitable',
    `${storage.description} can not hold backups safely, so no repository was made.\n${lines.join('\n')}`,
    { hint: 'Use another store, or another kind of bucket there (with or without versions), and try again.' },
  )
}

async function makePlace(
  application: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
) {
  try {
    return await application.drivers.createStorage(storageRequest(application, service, destination))
  } catch (error) {
    // A bucket or an account, which never is made here.
    if (!isRegainError(error, 'storage-not-found')) throw error
    throw new RegainError('precondition-failed', error.message, { hint: error.hint, cause: error })
  }
}

function storageRequest(
  { config, ambient }: Application,
  service: ServiceConfiguration,
  destination: DestinationConfiguration,
): StorageRequest {
  return { destination, service: service.name, state: config.state, ambient }
}

function checkResolved(destination: DestinationConfiguration): void {
  if (destination.unresolved !== undefined) throw new RegainError('config-invalid', destination.unresolved)
}
