import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openAwsKmsKey } from '../../src/keys/aws-kms.ts'
import { createKeyFile, openKeyFile } from '../../src/keys/file.ts'
import { openPassphrase } from '../../src/keys/passphrase.ts'
import { openVaultKey } from '../../src/keys/vault.ts'
import { startAwsKmsStandIn } from '../support/aws-kms-stand-in.ts'
import { startVaultStandIn } from '../support/vault-stand-in.ts'
import { keysContract } from './keys.ts'

keysContract('file', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'regain-keys-'))
  const file = async (name: string) => {
    await createKeyFile(join(parent, name), randomBytes)
    return join(parent, name)
  }
  const main = await file('main.key')
  const keys = await openKeyFile(main)
  return {
    keys,
    same: () => openKeyFile(main),
    other: async () => openKeyFile(await file(`other-${randomBytes(4).toString('hex')}.key`)),
    // The file goes away after it was opened: the one opened holds the path, not the KEK.
    unavailable: async () => {
      const provider = await openKeyFile(main)
      await rm(main)
      return provider
    },
    dispose: () => rm(parent, { recursive: true }),
  }
})

keysContract('passphrase', async () => {
  const passphrase = randomBytes(12).toString('base64')
  return {
    keys: openPassphrase(async () => passphrase, randomBytes),
    same: async () => openPassphrase(async () => passphrase, randomBytes),
    other: async () => openPassphrase(async () => `${passphrase} `, randomBytes),
    unavailable: async () => openPassphrase(() => Promise.reject(new Error('no terminal')), randomBytes),
    dispose: async () => {},
  }
})

keysContract('vault (stand-in)', async () => {
  const vault = await startVaultStandIn()
  const open = (key: string) =>
    openVaultKey({ address: vault.address, auth: { method: 'token', token: vault.token }, mount: 'transit', key })
  return {
    servicePrefix: 'vault:v1:',
    keys: open('main'),
    same: async () => open('main'),
    other: async () => open('other'),
    unavailable: async () => {
      vault.sealed = true
      return open('main')
    },
    dispose: () => vault.close(),
  }
})

keysContract('aws-kms (stand-in)', async () => {
  const kms = await startAwsKmsStandIn()
  const credentials = { accessKeyId: 'AKIAEXAMPLE', secretAccessKey: 'swordfish' }
  const open = (key: string) => openAwsKmsKey({ key, region: 'eu-central-1', endpoint: kms.endpoint, credentials })
  return {
    servicePrefix: '',
    keys: open('alias/main'),
    same: async () => open('alias/main'),
    other: async () => open('alias/other'),
    unavailable: async () => {
      kms.failure = 'DisabledException'
      return open('alias/main')
    },
    dispose: () => kms.close(),
  }
})
