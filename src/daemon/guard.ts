import { describeError } from '../catalog/record.ts'
import { isRegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { judgeKeptLog, type KeptLogLimit, type KeptLogVerdict } from '../policy/kept-log.ts'
import type { KeptLog, LogGuard } from '../sources/contract.ts'
import { nameOf, type SourceName } from './work.ts'

export interface GuardOptions {
  ambient: Ambient
  signal: AbortSignal
  limit: KeptLogLimit
  /** As `delay` of delays.ts. */
  delay(ms: number, signal: AbortSignal): Promise<void>
}

/** A busy server writes some GB in this time; the reserve of the policy is more. */
const LOOK_MS = 15_000
const LOOK_NEAR_MS = 5_000
/** Looking must not hang where the server does. */
const LOOK_LIMIT_MS = 60_000

/**
 * Looks after what a source keeps for us until the signal fires, beside its follower and whatever becomes of that: when the
 * repository is away there is no follower. Says once when much is kept, and has the source forget it before it is hurt.
 * Never rejects.
 */
export async function superviseGuard(
  name: SourceName,
  guard: () => Promise<LogGuard | null>,
  options: GuardOptions,
): Promise<void> {
  const { ambient, signal } = options
  const said = new Map<string, KeptLogVerdict['state']>()
  let failure = ''
  while (!signal.aborted) {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LOOK_LIMIT_MS)])
    try {
      const made = await guard()
      if (made === null) return
      for (const kept of await made.look(limit)) await act(made, kept, limit)
      failure = ''
    } catch (error) {
      if (signal.aborted) break
      const { message } = describeError(error)
      // A server that cannot be reached is told by the follower, and nothing can be done for it.
      if (!isRegainError(error, 'source-unavailable') && !isRegainError(error, 'interrupted') && message !== failure)
        ambient.log('warning', `What the server keeps for the log cannot be watched: ${message}`, {
          source: nameOf(name),
        })
      failure = message
    }
    await options.delay([...said.values()].some((state) => state !== 'fine') ? LOOK_NEAR_MS : LOOK_MS, signal)
  }

  async function act(made: LogGuard, kept: KeptLog, limit: AbortSignal): Promise<void> {
    const { state, reason } = judgeKeptLog(kept, options.limit)
    const before = said.get(kept.server) ?? 'fine'
    said.set(kept.server, state)
    const about = { source: nameOf(name), server: kept.server, keptBytes: kept.keptBytes }
    if (state === 'near' && before !== 'near')
      ambient.log('warning', `The server keeps much log that is not in the repository yet: ${reason}.`, about)
    if (state === 'fine' && before !== 'fine')
      ambient.log('info', `The server keeps little log for Regain again: ${reason}.`, about)
    if (state !== 'give-up') return
    if (!kept.isFollowed) {
      await made.giveUp(kept, limit)
      ambient.log('warning', `A replication slot on a server that is not followed was dropped: ${reason}.`, about)
      return
    }
    ambient.log(
      'error',
      `THE SERVER IS TOLD TO FORGET LOG THAT IS NOT STORED, before its disk is full: ${reason}.`,
      about,
    )
    await made.giveUp(kept, limit)
    ambient.log(
      'error',
      'The replication slot was dropped. Moments from the end of the stored log on cannot be recovered until a new point is taken, which happens as soon as the repository can be written again.',
      about,
    )
  }
}
