import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, test } from 'node:test'
import {
  age,
  assertRestores,
  assertSound,
  backUp,
  createTestRepository,
  openTestRepository,
  readTree,
  type TestRepository,
  temporaryFolder,
  testKey,
  verify,
  writeTree,
} from '../../../test/support/repository.ts'
import { startVaultStandIn } from '../../../test/support/vault-stand-in.ts'
import { type ErrorCode, isRegainError } from '../../errors.ts'
import { openPassphrase } from '../../keys/passphrase.ts'
import { openVaultKey } from '../../keys/vault.ts'
import type { Storage } from '../../storage/contract.ts'
import { openMemoryStorage } from '../../storage/memory.ts'

/** Several KEKs: added, taken out, destroyed; and that nothing of it goes unnoticed. */

let folder: ReturnType<typeof temporaryFolder>
let storage: Storage
let made: TestRepository

beforeEach(async () => {
  folder = temporaryFolder()
  storage = openMemoryStorage()
  made = await createTestRepository(storage, folder.path)
})

afterEach(async () => {
  await made.repository.close()
  folder.remove()
})

test('a key that was added opens the repository, and one that was taken out no longer', async () => {
  const data = `${folder.path}/data`
  writeTree(data, { 'a.txt': 'kept', 'b/c.txt': 'as well' })
  age(data)
  const { point } = await backUp(made.repository, data)
  const spare = await testKey(folder.path)
  const spareKek = await made.repository.addKey(spare, 'spare')
  const first = (await made.repository.keys()).find(({ kek }) => kek !== spareKek)
  assert.deepEqual((await made.repository.keys()).map(({ label }) => label).sort(), ['first', 'spare'])
  await assertSound(made.repository)

  await made.repository.removeKey(first?.kek ?? '')

  await assertSound(made.repository)
  await rejectsWith('wrong-key', openTestRepository(storage, made.key))
  const again = await openTestRepository(storage, spare)
  await assertRestores(again, point.id, readTree(data))
  await assertSound(again)
  await again.close()
})

test('a passphrase that is added again stays one key', async () => {
  const passphrase = (text: string) => openPassphrase(async () => text, randomBytes)
  const kek = await made.repository.addKey(passphrase('correct horse'), 'spare')
  assert.equal(await made.repository.addKey(passphrase('correct horse'), 'other'), kek)
  assert.notEqual(await made.repository.addKey(passphrase('wrong horse'), 'spare'), kek)
  assert.deepEqual((await made.repository.keys()).map(({ label }) => label).sort(), ['first', 'other', 'spare'])
  await assertSound(made.repository)
})

test('the last key is never taken out, and one that is not there cannot be', async () => {
  const [only] = await made.repository.keys()
  await rejectsWith('precondition-failed', made.repository.removeKey(only?.kek ?? ''))
  await rejectsWith('precondition-failed', made.repository.removeKey('0123456789abcdef'))
  await (await openTestRepository(storage, made.key)).close()
  // One whose object is damaged opens nothing, so it is no other key.
  const spare = await made.repository.addKey(await testKey(folder.path), 'spare')
  const { domain } = (await made.repository.keys())[0]!
  const name = `keys/${domain}-1-${spare}.json`
  await storage.put(name, Buffer.from((await storage.get(name)).toString().replace('spare', 'spore')))
  await rejectsWith('precondition-failed', made.repository.removeKey(only?.kek ?? ''))
  await made.repository.removeKey(spare)
  await assertSound(made.repository)
})

test('a key object that goes missing is noticed, the newest one too, and one that comes back', async () => {
  const kek = await made.repository.addKey(await testKey(folder.path), 'spare')
  const { domain } = (await made.repository.keys())[0]!
  const name = `keys/${domain}-1-${kek}.json`
  const bytes = await storage.get(name)

  await storage.delete(name)
  assert.deepEqual(await problemsOf(made), [`missing ${name}`])

  await storage.put(name, bytes)
  await made.repository.removeKey(kek)
  assert.deepEqual(await problemsOf(made), [])
  await storage.put(name, bytes)
  assert.deepEqual(await problemsOf(made), [`changed ${name}`])
  await made.repository.removeKey(kek)
  assert.deepEqual(await problemsOf(made), [])
})

test('the list of keys is authenticated, and its loss does not keep a repository from being opened', async () => {
  const { domain } = (await made.repository.keys())[0]!
  const name = `keys/${domain}-1.json`
  const list = await storage.get(name)
  await storage.put(name, Buffer.from(list.toString().replace('"oldest": 1', '"oldest": 9')))
  assert.deepEqual(await problemsOf(made), [`changed ${name}`])
  await storage.delete(name)
  assert.deepEqual(await problemsOf(made), [`missing ${name}`])
  const again = await openTestRepository(storage, made.key)
  await again.addKey(made.key, 'first')
  await assertSound(again)
  await again.close()
})

test('with its keys destroyed no KEK opens the repository, and it says so', async () => {
  const spare = await testKey(folder.path)
  await made.repository.addKey(spare, 'spare')
  assert.equal((await made.repository.destroyKeys()).length, 2)
  for (const key of [made.key, spare]) {
    const error = await rejectsWith('repository-damaged', openTestRepository(storage, key))
    assert.match(error.message, /destroyed on purpose at 20/)
  }
})

test('destroying keys that was cut short can be completed with the key that began it', async () => {
  await made.repository.addKey(await testKey(folder.path), 'spare')
  const remove = storage.delete.bind(storage)
  let deletions = 0
  storage.delete = async (name) => {
    if (++deletions === 2) throw new Error('killed')
    await remove(name)
  }
  await assert.rejects(made.repository.destroyKeys(), /killed/)
  const again = await openTestRepository(storage, made.key)
  await again.destroyKeys()
  await again.close()
  await rejectsWith('repository-damaged', openTestRepository(storage, made.key))
})

test('a key service that goes away does not hurt a backup that runs, and opening says that it is away', async () => {
  const vault = await startVaultStandIn()
  try {
    const { address, token } = vault
    const key = openVaultKey({ address, auth: { method: 'token', token }, mount: 'transit', key: 'shop' })
    await made.repository.addKey(key, 'vault')
    const opened = await openTestRepository(storage, key)
    const data = `${folder.path}/data`
    writeTree(data, { 'a.txt': 'stored while the service is away' })
    vault.sealed = true
    const { point } = await backUp(opened, data)
    await assertRestores(opened, point.id, readTree(data))
    await opened.close()
    const error = await rejectsWith('key-unavailable', openTestRepository(storage, key))
    assert.ok(isRegainError(error) && error.retryable)
    vault.sealed = false
    await (await openTestRepository(storage, key)).close()
  } finally {
    await vault.close()
  }
})

async function problemsOf({ repository }: TestRepository): Promise<string[]> {
  return (await verify(repository)).problems.map(({ kind, object }) => `${kind} ${object}`)
}

async function rejectsWith(code: ErrorCode, outcome: Promise<unknown>): Promise<Error> {
  const error = await outcome.then(
    () => assert.fail(`expected ${code}`),
    (reason: unknown) => reason,
  )
  assert.ok(isRegainError(error, code), `expected ${code}, got ${error}`)
  return error
}
