import { RegainError } from '../../../errors.ts'
import type { Positions } from './positions.ts'

/** As PostgreSQL's version() calls them. */
const MACHINES: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64' }

/**
 * Files of a cluster are of one kind of machine: on another, indexes may be in another order (char is signed or not), and
 * PostgreSQL does not support it. Throws `precondition-failed` if a server is to run on them here; else gives what a
 * person should know. `arch` as process.arch.
 */
export function checkMachine(
  { machine, version }: Pick<Positions, 'machine' | 'version'>,
  arch: string,
  runsHere: boolean,
): string | null {
  const here = MACHINES[arch] ?? arch
  if (machine === null || machine === here) return null
  const what = `The point's files are of PostgreSQL ${version} on ${machine}, and this machine is ${here}`
  if (!runsHere) return `${what}: start a server on them only on a machine like the original's.`
  throw new RegainError('precondition-failed', `${what}: no server may run on them here. Nothing was done.`, {
    hint: "Restore on a machine like the original's; or without --start, and move the directory there. Dumps (pg_dump) can be restored anywhere.",
  })
}
