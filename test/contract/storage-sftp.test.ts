import { after, before } from 'node:test'
import { createSftpStorage } from '../../src/storage/sftp.ts'
import { testAmbient } from '../support/repository.ts'
import { startSshd, type TestSshd } from '../support/sshd.ts'
import { REMOTE, storageContract } from './storage.ts'

let sshd: TestSshd
let stores = 0

before(async () => {
  sshd = await startSshd()
})
after(() => sshd.stop())

storageContract(
  'sftp',
  async () => ({
    storage: await createSftpStorage(sshd.place(`new/store-${stores++}`), testAmbient()),
    dispose: async () => {},
  }),
  REMOTE,
)
