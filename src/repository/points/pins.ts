import { RegainError } from '../../errors.ts'
import { tidy } from '../cleanup.ts'
import { pinName } from '../format/object-names.ts'
import { sealRecord } from '../format/records.ts'
import { requireCurrentEpoch } from '../keys/epochs.ts'
import type { RepositoryState } from '../repository-state.ts'
import { counts } from './commits.ts'
import { ownTrace } from './liveness.ts'

/**
 * The reader's step of the removal protocol: first the pin, which every mark treats as a root, then the proof that the
 * point still counts. Nobody waits for readers; a pin whose reader died is cleared by a collector.
 */
export async function pinPoint(
  state: RepositoryState,
  point: string,
  signal: AbortSignal,
): Promise<() => Promise<void>> {
  const pin = state.ambient.randomBytes(16).toString('hex')
  const name = pinName(pin)
  const record = { pin, point, ...ownTrace(state.ambient) }
  await state.storage.create(name, sealRecord(state.keys, 'N', name, record, state.ambient.randomBytes(32)), { signal })
  const release = () => removePin(state, name)
  try {
    // Where a later epoch can't be opened, going by it would let nobody read, and perhaps there is none.
    if (state.keyring.unopened === null) await requireCurrentEpoch(state, signal)
    if (await counts(state, point, signal)) return release
  } catch (error) {
    await release()
    throw error
  }
  await release()
  throw new RegainError('point-not-found', `There is no recovery point ${point}: it was removed, or never committed.`)
}

/** What was read is no worse for a pin that stays: a collector clears it some day. */
async function removePin(state: RepositoryState, name: string): Promise<void> {
  try {
    await tidy((signal) => state.storage.delete(name, { signal }))
  } catch (error) {
    if (!(error instanceof RegainError)) throw error
    state.ambient.log('warning', `A reader's pin could not be removed: ${error.message}`, { object: name })
  }
}
