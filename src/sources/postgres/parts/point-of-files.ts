import { RegainError } from '../../../errors.ts'
import type { RestoreTarget } from '../../contract.ts'

/**
 * Refuses what needs a server's own files or its log of a point that has neither: its files come back as they were made.
 * `what`: 'dumps'.
 */
export function requirePlainRestore(what: string, { at, path, start, inPlace }: RestoreTarget): void {
  if (start || path !== null || inPlace !== undefined) {
    const option = start ? '--start' : path !== null ? '--path' : '--in-place'
    throw new RegainError('usage', `${option} does not go with ${what}. Nothing was done.`, {
      hint: 'Restore into a server (--to postgres://…), or into a directory.',
    })
  }
  if (at.kind === 'lsn' || at.kind === 'xid' || at.kind === 'name')
    throw new RegainError(
      'moment-unreachable',
      `Points of ${what} are of their own moment alone, and have no log. Nothing was done.`,
      { hint: 'Name a point, or a time: then it is the newest point of before.' },
    )
}
