import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
