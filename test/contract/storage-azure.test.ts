import { randomBytes } from 'node:crypto'
import { after, before } from 'node:test'
import { openAzureStorage } from '../../src/storage/azure.ts'
import { startAzurite, type TestAzurite } from '../support/azurite.ts'
import { REMOTE, storageContract } from './storage.ts'

let azurite: TestAzurite
let container: string

before(async () => {
  azurite = await startAzurite()
  container = await azurite.container()
})
after(() => azurite.stop())

storageContract(
  'azure',
  async () => {
    const { endpoint, login } = azurite
    const prefix = `${randomBytes(4).toString('hex')}/shop/`
    return { storage: await openAzureStorage({ container, prefix, endpoint, login }), dispose: async () => {} }
  },
  REMOTE,
)
