import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { inspect } from 'node:util'
import { startVaultStandIn, type VaultStandIn } from '../../test/support/vault-stand-in.ts'
import { isRegainError } from '../errors.ts'
import { openVaultKey } from './vault.ts'
import type { VaultAuth } from './vault-api.ts'

/** Logins to Vault, and what is told when it is away. What every key does is in test/contract/keys.ts. */

const ABOUT = { domain: '00112233445566778899aabbccddeeff', epoch: 1 }
const APPROLE: VaultAuth = { method: 'approle', roleId: 'backup', secretId: 'swordfish', mount: 'approle' }

let folder: string
let vault: VaultStandIn
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'regain-vault-'))
})
after(() => rm(folder, { recursive: true }))
beforeEach(async () => {
  vault = await startVaultStandIn()
})
afterEach(() => vault.close())

const open = (auth: VaultAuth, namespace?: string) =>
  openVaultKey({
    address: vault.address,
    auth,
    mount: 'transit',
    key: 'main',
    ...(namespace === undefined ? {} : { namespace }),
  })

test('AppRole and Kubernetes log in once, and again when their token has expired', async () => {
  const tokenPath = join(folder, 'token')
  await writeFile(tokenPath, 'pod-token\n')
  for (const auth of [APPROLE, { method: 'kubernetes', role: 'regain', mount: 'kubernetes', tokenPath } as const]) {
    vault.calls.length = 0
    const key = open(auth)
    const wrapped = await key.wrap(randomBytes(32), ABOUT)
    assert.ok(await key.unwrap(wrapped, ABOUT))
    const login = `POST auth/${auth.mount}/login`
    assert.deepEqual(vault.calls, [login, 'POST transit/encrypt/main', 'POST transit/decrypt/main'])
    vault.expireLogins()
    assert.ok(await key.unwrap(wrapped, ABOUT))
    assert.deepEqual(vault.calls.slice(3), ['POST transit/decrypt/main', login, 'POST transit/decrypt/main'])
  }
})

test('what Vault refuses is told with its own words and without a secret', async () => {
  const auths: VaultAuth[] = [
    { method: 'token', token: 'expired-token' },
    { ...APPROLE, secretId: 'wrong-secret' },
    { method: 'kubernetes', role: 'regain', mount: 'kubernetes', tokenPath: join(folder, 'missing') },
  ]
  for (const auth of auths) {
    const error = await open(auth)
      .wrap(randomBytes(32), ABOUT)
      .then(
        () => assert.fail('accepted'),
        (reason: unknown) => reason,
      )
    assert.ok(isRegainError(error, 'key-unavailable'), inspect(error))
    assert.ok(error.retryable)
    assert.doesNotMatch(inspect(error, { depth: 10 }), /wrong-secret|expired-token/)
  }
})

test('a namespace goes along, and a wrong one is told', async () => {
  vault.namespace = 'team-a'
  const token: VaultAuth = { method: 'token', token: vault.token }
  const wrapped = await open(token, 'team-a').wrap(randomBytes(32), ABOUT)
  assert.ok(await open(token, 'team-a').unwrap(wrapped, ABOUT))
  await assert.rejects(open(token).unwrap(wrapped, ABOUT), { code: 'key-unavailable' })
})

test('a Vault that is gone, or an address in clear text, is no wrong key', async () => {
  await vault.close()
  await assert.rejects(open(APPROLE).wrap(randomBytes(32), ABOUT), { code: 'key-unavailable' })
  for (const address of ['http://vault.example:8200', 'ftp://127.0.0.1', 'vault:8200'])
    assert.throws(() => openVaultKey({ address, auth: APPROLE, mount: 'transit', key: 'main' }), {
      code: 'config-invalid',
    })
})
