import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withCache } from '../../src/storage/cache.ts'
import { withFaults } from '../../src/storage/fault.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import { openMemoryStorage } from '../../src/storage/memory.ts'
import { storageContract } from './storage.ts'

storageContract('memory', async () => ({ storage: openMemoryStorage(), dispose: async () => {} }))

storageContract('local', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'regain-storage-'))
  return {
    storage: await createLocalStorage(join(parent, 'new', 'store')),
    dispose: () => rm(parent, { recursive: true }),
  }
})

storageContract('faults, none of them scripted', async () => ({
  storage: withFaults(openMemoryStorage(), () => null),
  dispose: async () => {},
}))

storageContract('copies on this machine', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'regain-storage-'))
  const ambient = { now: Date.now, randomBytes, log: () => undefined }
  return {
    storage: withCache(openMemoryStorage(), { directory: join(directory, 'cache'), ambient }),
    dispose: () => rm(directory, { recursive: true }),
  }
})
