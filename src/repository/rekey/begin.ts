import { RegainError } from '../../errors.ts'
import type { KeyProvider } from '../../keys/contract.ts'
import type { BegunRekey } from '../api.ts'
import { deriveKeyRing, type EpochKey, KEY_BYTES } from '../format/domain-keys.ts'
import { sealEpoch } from '../keys/administer-keys.ts'
import { requireCurrentEpoch } from '../keys/epochs.ts'
import { type ListedKeys, listKeys, readAuthenticKey, sealKeyObject } from '../keys/key-objects.ts'
import { unwrapEpoch } from '../keys/unwrap.ts'
import type { RepositoryState } from '../repository-state.ts'
import { renewRepositoryRecord } from './record.ts'

export interface KeyAtHand {
  provider: KeyProvider
  label: string
}

/**
 * Begins a key epoch. Order in which it becomes durable: the new domain key, wrapped by every KEK at hand; then the
 * epoch's object, by create-if-absent, which is the moment from which everything new is sealed in it; then repository.json.
 * Cut short before that moment nothing has happened, and the next try goes on with the same domain key.
 */
export async function beginEpoch(state: RepositoryState, atHand: readonly KeyAtHand[]): Promise<BegunRekey> {
  const { domain, keys, identity, oldest } = state.keyring
  const epoch = keys.epoch + 1
  // Opened before another rekey: its epoch is not this one's to add to.
  await requireCurrentEpoch(state)
  const listed = await listKeys(state.storage, domain)
  const key = (await begunBefore(state, listed, epoch, atHand)) ?? {
    epoch,
    key: state.ambient.randomBytes(KEY_BYTES),
  }
  const ring = deriveKeyRing(keys.domain, identity, [key])
  const addedAt = new Date(state.ambient.now()).toISOString()
  const keks = new Map<string, string>()
  for (const { provider, label } of atHand) {
    const sealed = await sealKeyObject(provider, { domain, epoch, key, keys: ring, identity, label, addedAt })
    if (!(await state.storage.create(sealed.name, sealed.bytes)))
      // Of an earlier try, or of another rekey at this moment: only under the same domain key is it good.
      await readAuthenticKey(state.storage, sealed.name, ring).catch(() => Promise.reject(another()))
    keks.set(sealed.kek, label)
  }
  const begun = sealEpoch(state, ring, { domain, epoch, oldest, keys: [...keks.keys()] })
  if (!(await state.storage.create(begun.name, begun.bytes))) throw another()
  await renewRepositoryRecord(state, ring)
  key.key.fill(0)
  const dropped = listed.keys.filter((old) => old.epoch === keys.epoch && !keks.has(old.kek))
  return {
    epoch,
    carried: [...keks].map(([kek, label]) => ({ kek, label })),
    dropped: await Promise.all(
      dropped.map(async ({ name, kek }) => ({ kek, label: (await readAuthenticKey(state.storage, name, keys)).label })),
    ),
  }
}

/** The domain key of a try that was cut short. */
async function begunBefore(
  { storage, ambient, keyring: { domain } }: RepositoryState,
  listed: ListedKeys,
  epoch: number,
  atHand: readonly KeyAtHand[],
): Promise<EpochKey | null> {
  if (!listed.keys.some((key) => key.epoch === epoch)) return null
  const providers = atHand.map(({ provider }) => provider)
  return unwrapEpoch({ storage, ambient, providers, domain, epoch }, listed, epoch)
}

function another(): RegainError {
  return new RegainError(
    'key-replaced',
    'Another rekey began in this repository at the same time. This one has changed nothing.',
  )
}
