import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { RegainError } from '../../../errors.ts'
import { NEWEST_MAJOR } from './server-facts.ts'

const execute = promisify(execFile)

export interface BinarySearch {
  /** Folders to look in first. */
  directories?: string[]
  /** The PATH variable; absent: not looked at. */
  path?: string
}

/** Folder that holds client programs. */
export interface ClientPrograms {
  directory: string
  /** '15.18', of the first that was asked for. */
  version: string
}

/**
 * A folder that holds `names`, of `major` or later: dumps of a server are made by programs that are not older than it,
 * and read by such as are not older than those. The first of `directories` that has them; else, of where distributions
 * put them and PATH, the oldest, which adds the least that an older target might not know. Rejects with
 * `precondition-failed`, saying where it looked and what it found there.
 */
export async function findClientPrograms(
  major: number,
  names: readonly string[],
  search: BinarySearch,
): Promise<ClientPrograms> {
  const majors = Array.from({ length: NEWEST_MAJOR - major + 1 }, (_, index) => major + index)
  const configured = search.directories ?? []
  const directories = new Set([...configured, ...usualDirectories(majors, search)])
  const found: (ClientPrograms & { major: number })[] = []
  for (const directory of directories) {
    const versions = await Promise.all(names.map((name) => programVersion(join(directory, name))))
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
    `No ${names.join(' and ')} of PostgreSQL ${major} or newer was found on this machine (looked in ${[...directories].join(', ')}${
      older === '' ? '' : `; too old: ${older}`
    }). Nothing was done.`,
    {
      hint: `Install them (Debian, Ubuntu: apt-get install postgresql-client-${major}), or name the folder that holds them as the source's programs:.`,
    },
  )
}

/** Where distributions put the programs of `majors`, then PATH. */
export function usualDirectories(majors: readonly number[], search: BinarySearch): string[] {
  return [
    ...majors.flatMap((major) => [`/usr/lib/postgresql/${major}/bin`, `/usr/pgsql-${major}/bin`]),
    ...(search.path ?? '').split(':').filter((directory) => directory.startsWith('/')),
  ]
}

/** '15.18'; null: there is no such program, or it does not run. */
export async function programVersion(program: string): Promise<string | null> {
  // Whatever keeps it from answering, it is no program that could serve; callers name where they looked.
  const output = await execute(program, ['--version'], { timeout: 10_000 }).catch(() => null)
  // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"; a beta says "19beta1".
  return /\(PostgreSQL\) (\d+(?:\.\d+)?)/.exec(output?.stdout ?? '')?.[1] ?? null
}
