import { link, mkdir, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { RegainError } from '../../../errors.ts'
import { errorCode, ifAbsent } from '../../../filesystem/system-error.ts'

/** FILE.sql: SQL for psql. FILE.dump: pg_restore's custom format. Anything else: a folder in its directory format. */
export type OutputFormat = 'plain' | 'custom' | 'directory'

export function formatOf(path: string): OutputFormat {
  return path.endsWith('.sql') ? 'plain' : path.endsWith('.dump') ? 'custom' : 'directory'
}

/** Rejects with `target-not-empty` if something is there. */
export async function checkOutput(path: string): Promise<void> {
  const status = await stat(path).catch(ifAbsent(null))
  if (status === null) return
  if (status.isDirectory() && formatOf(path) === 'directory' && (await readdir(path)).length === 0) return
  throw occupied(path)
}

function occupied(path: string): RegainError {
  return new RegainError(
    'target-not-empty',
    `${path} is there already. Nothing was restored, and nothing there was touched.`,
    {
      hint: 'Name another file or directory with --to.',
    },
  )
}

/**
 * Lets `fill` write beside `path`, makes what it wrote durable, and then visible under `path` in one step, never over
 * anything. Whatever fails, nothing of it stays.
 */
export async function writeOutput(path: string, fill: (unfinished: string) => Promise<void>): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true })
    const beside = await mkdtemp(join(dirname(path), `.${basename(path).slice(0, 100)}.regain-`))
    try {
      const unfinished = join(beside, 'dump')
      await fill(unfinished)
      await sync(unfinished)
      await putInPlace(unfinished, path)
      await sync(dirname(path))
    } finally {
      await rm(beside, { recursive: true, force: true })
    }
  } catch (error) {
    throw explained(error, path)
  }
}

/** A link refuses a name that is taken; rename refuses a directory that holds something. */
async function putInPlace(unfinished: string, path: string): Promise<void> {
  if (formatOf(path) === 'directory') return rename(unfinished, path)
  try {
    await link(unfinished, path)
  } catch (error) {
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP'].includes(errorCode(error))) throw error
    // A file system without links: the name is taken first, by an empty file.
    await (await open(path, 'wx', 0o600)).close()
    await rename(unfinished, path)
  }
}

function explained(error: unknown, path: string): unknown {
  switch (errorCode(error)) {
    case 'EEXIST':
    case 'ENOTEMPTY':
    case 'ENOTDIR':
      return occupied(path)
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new RegainError('not-permitted', `${path} can't be written: ${errorCode(error)}. Nothing was restored.`)
    case 'ENOSPC':
    case 'EDQUOT':
      return new RegainError('target-full', `No space is left for ${path}. Nothing of it was kept.`, {
        hint: 'Free space there, or name another place with --to.',
      })
    default:
      return error
  }
}

/** A file, or a folder of files. */
async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    if ((await handle.stat()).isDirectory() && basename(path) === 'dump')
      for (const name of await readdir(path)) await sync(join(path, name))
    await handle.sync()
  } finally {
    await handle.close()
  }
}
