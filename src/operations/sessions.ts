import { throwIfInterrupted } from '../errors.ts'
import type { Ambient, Point } from '../model.ts'
import type { CommitSummary, PointSession } from '../repository/api.ts'
import { asRegainError } from './failures.ts'

/** Fills a session and commits it. Whatever fails, the session is given up and nothing of it is visible. */
export async function commitOrDiscard(
  ambient: Ambient,
  session: PointSession,
  signal: AbortSignal,
  fill: () => Promise<CommitSummary>,
): Promise<Point> {
  try {
    const summary = await fill()
    throwIfInterrupted(signal)
    return await session.commit(summary)
  } catch (error) {
    try {
      await session.discard()
    } catch (discardError) {
      // What failed first is what a person must hear of; what the session leaves behind is invisible and cleaned later.
      ambient.log('warning', `A session could not be given up: ${asRegainError(discardError, signal).message}`)
    }
    throw error
  }
}
