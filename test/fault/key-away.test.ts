import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { RegainError } from '../../src/errors.ts'
import type { KeyProvider } from '../../src/keys/contract.ts'
import type { Repository } from '../../src/repository/api.ts'
import {
  type AgedRepository,
  addPoint,
  assertAllHold,
  assertHolds,
  clockOff,
  makeAgedRepository,
  prune,
} from '../support/aged-repository.ts'
import { assertSound, openTestRepository, temporaryFolder, testKey } from '../support/repository.ts'

/** A key service, as the repository sees it, that can go away; the services themselves are tried in src/keys and test/contract. */
describe('a key service that goes away', () => {
  let folder: ReturnType<typeof temporaryFolder>
  let aged: AgedRepository
  let isAway = false

  before(async () => {
    folder = temporaryFolder()
    aged = await makeAgedRepository(folder.path)
    aged.putBack()
  })
  after(async () => {
    await aged.close()
    folder.remove()
  })

  function service(): KeyProvider {
    const away = async () => {
      if (isAway) throw new RegainError('key-unavailable', 'The key service does not answer.')
    }
    return {
      type: aged.key.type,
      description: aged.key.description,
      kekName: (argon2id) => away().then(() => aged.key.kekName(argon2id)),
      wrap: (...args) => away().then(() => aged.key.wrap(...args)),
      unwrap: (...args) => away().then(() => aged.key.unwrap(...args)),
      exportKey: (...args) => away().then(() => aged.key.exportKey(...args)),
    }
  }

  function open(key: KeyProvider = service()): Promise<Repository> {
    return openTestRepository(aged.memory, key, { ambient: clockOff(24 * 365), workers: 1 })
  }

  it('in the middle of a backup is not missed before the next opening, which tells it from a wrong key', async () => {
    const repository = await open()
    isAway = true
    const id = await addPoint(repository, aged.next)
    await prune(repository, { expire: [aged.doomed.id] })
    await assertHolds(repository, id, aged.next)
    await assertAllHold(repository, aged)
    await assertSound(repository)
    await repository.close()
    await assert.rejects(open(), { code: 'key-unavailable' })
    isAway = false
    const again = await open()
    await assertHolds(again, id, aged.next)
    await again.close()
  })

  it('before a rekey leaves the repository as it was', async () => {
    const repository = await open()
    isAway = true
    const before = [...aged.memory.objects.keys()].sort()
    await assert.rejects(repository.beginRekey([{ provider: service(), label: 'key' }]), { code: 'key-unavailable' })
    isAway = false
    assert.deepEqual([...aged.memory.objects.keys()].sort(), before)
    assert.equal(repository.keyEpoch.current, 1)
    await assertAllHold(repository, aged)
    await repository.close()
  })

  it('and comes back with another key is told as a wrong key, and nothing is written', async () => {
    const before = [...aged.memory.objects.keys()].sort()
    await assert.rejects(open(await testKey(folder.path)), { code: 'wrong-key' })
    assert.deepEqual([...aged.memory.objects.keys()].sort(), before)
  })
})
