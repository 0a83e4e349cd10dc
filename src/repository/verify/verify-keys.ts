import { createHash } from 'node:crypto'
import { RegainError } from '../../errors.ts'
import { authenticateClear, decodeClear, type RepositoryRecord } from '../format/clear.ts'
import type { EpochKeys } from '../format/domain-keys.ts'
import { PREFIX, REPOSITORY } from '../format/object-names.ts'
import { epochName, keyName, type ListedKeys, listKeys, readAuthenticKey, readEpoch } from '../keys/key-objects.ts'
import { notOpened } from '../keys/keyring.ts'
import type { RepositoryState } from '../repository-state.ts'
import { attempt, missing, type Report } from './verify-records.ts'

/** repository.json, its companions, and the wrapped keys: authentic and complete. */
export async function checkKeys(state: RepositoryState, signal: AbortSignal, problem: Report): Promise<void> {
  await checkIdentity(state, signal, problem)
  const { domain, keys, oldest, unopened } = state.keyring
  if (unopened !== null) problem({ object: unopened, kind: 'unreadable', detail: notOpened(unopened), hurts: [] })
  const listed = await listKeys(state.storage, domain, { signal })
  for (let epoch = oldest; epoch <= keys.epoch; epoch++) {
    const epochKeys = keys.ring.get(epoch)
    if (epochKeys) await checkEpoch(state, epochKeys, listed, signal, problem)
    else
      problem({
        object: epochName({ domain, epoch }),
        kind: 'unreadable',
        detail: `The key at hand does not open key epoch ${epoch}, in which parts of this repository may still be sealed.`,
        hurts: [],
      })
  }
}

async function checkIdentity(state: RepositoryState, signal: AbortSignal, problem: Report): Promise<void> {
  const record = await attempt(problem, REPOSITORY, async () => {
    const bytes = await state.storage.get(REPOSITORY, undefined, { signal })
    const decoded = decodeClear<RepositoryRecord>(bytes, REPOSITORY, 'repository')
    const epochKeys = state.keys.ring.get(decoded.epoch)
    if (!epochKeys) throw new RegainError('repository-damaged', `${REPOSITORY} is of a key epoch that is not at hand.`)
    authenticateClear(epochKeys, REPOSITORY, bytes, decoded)
    return decoded
  })
  for (const [name, expected] of Object.entries(record?.companions ?? {}))
    await attempt(problem, name, async () => {
      const bytes = await state.storage.get(name, undefined, { signal })
      if (createHash('sha256').update(bytes).digest('hex') !== expected)
        throw new RegainError(
          'repository-damaged',
          `${name} is not what was written with the repository. No data is affected.`,
        )
    })
}

/** Key objects are listed before the list of KEKs is read: one that is added meanwhile is looked for by its name. */
async function checkEpoch(
  state: RepositoryState,
  keys: EpochKeys,
  listed: ListedKeys,
  signal: AbortSignal,
  problem: Report,
): Promise<void> {
  const which = { domain: state.keyring.domain, epoch: keys.epoch }
  const there = listed.keys.filter((key) => key.epoch === keys.epoch)
  for (const { name } of there)
    await attempt(problem, name, () => readAuthenticKey(state.storage, name, keys, { signal }), true)
  if (there.length === 0)
    missing(
      problem,
      PREFIX.keys,
      'No wrapped key is left: the repository can only be opened while a process still has it open.',
    )
  const record = await attempt(problem, epochName(which), async () => {
    const found = await readEpoch(state.storage, which, keys, { signal })
    if (!found) missing(problem, epochName(which), 'The list of the keys that open the repository is missing.')
    return found
  })
  if (!record) return
  for (const kek of record.keys) {
    const name = keyName(which, kek)
    if ((await state.storage.size(name, { signal })) === null)
      missing(problem, name, `A wrapped key was removed: the key ${kek} opens the repository no longer.`)
  }
  for (const { name, kek } of there)
    if (!record.keys.includes(kek) && (await state.storage.size(name, { signal })) !== null)
      problem({
        object: name,
        kind: 'changed',
        detail:
          `The list of keys does not name ${kek}: it was taken out and its object is back, or a key was being added or ` +
          'removed. Who holds that key can open the repository: see regain key list, and add it again or remove it.',
        hurts: [],
      })
}
