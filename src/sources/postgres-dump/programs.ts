import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { RegainError } from '../../errors.ts'
import type { ClientPrograms } from '../postgres/parts/client-programs.ts'
import type { BinarySearch } from '../postgres/server/binaries.ts'
import { NEWEST_MAJOR } from '../postgres/server/server-facts.ts'

const execute = promisify(execFile)

/** What a backup needs, and what a restore. */
export const DUMPING = ['pg_dump', 'pg_dumpall'] as const
export const RESTORING = ['pg_restore', 'psql'] as const

/**
 * A folder that holds `names`, of `major` or later: PostgreSQL's own dumps of a server are made by programs that are not
 * older than it, and read by such as are not older than those. Of several the oldest, which adds the least that an older
 * target might not know. Rejects with `precondition-failed`, saying where it looked and what it found there.
 */
export async function findDumpPrograms(
  major: number,
  names: readonly string[],
  search: BinarySearch,
): Promise<ClientPrograms> {
  const majors = Array.from({ length: NEWEST_MAJOR - major + 1 }, (_, index) => major + index)
  const configured = search.directories ?? []
  const others = [
    ...majors.flatMap((one) => [`/usr/lib/postgresql/${one}/bin`, `/usr/pgsql-${one}/bin`]),
    ...(search.path ?? '').split(':').filter((directory) => directory.startsWith('/')),
  ]
  const found: (ClientPrograms & { major: number })[] = []
  for (const directory of new Set([...configured, ...others])) {
    const versions = await Promise.all(names.map((name) => versionOf(join(directory, name))))
    if (versions.includes(null)) continue
    const version = versions[0]!
    found.push({ directory, version, major: Math.min(...versions.map((text) => Number.parseInt(text ?? '', 10))) })
    if (configured.includes(directory) && found.at(-1)!.major >= major) return { directory, version }
  }
  const fit = found.filter((one) => one.major >= major).sort((a, b) => a.major - b.major)[0]
  if (fit !== undefined) return { directory: fit.directory, version: fit.version }
  const older = found.map(({ directory, version }) => `${version} in ${directory}`).join(', ')
  throw new RegainError(
    'precondition-failed',
    `No ${names.join(' and ')} of PostgreSQL ${major} or newer was found on this machine (${
      older === '' ? `looked in ${[...new Set([...configured, ...others])].join(', ')}` : `too old: ${older}`
    }). Nothing was done.`,
    {
      hint: `Install them (Debian, Ubuntu: apt-get install postgresql-client-${major}), or name the folder that holds them as the source's programs:.`,
    },
  )
}

async function versionOf(program: string): Promise<string | null> {
  // That it does not run is the answer.
  const output = await execute(program, ['--version'], { timeout: 10_000 }).catch(() => null)
  return /\(PostgreSQL\) (\d+(?:\.\d+)?)/.exec(output?.stdout ?? '')?.[1] ?? null
}
