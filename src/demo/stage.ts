import { chmod, mkdir, mkdtemp, readdir, rm, stat, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { RegainError } from '../errors.ts'

/** Where the demo happens, and what has to be put away after it, last thing first. */
export interface Stage {
  /** Absolute. */
  directory: string
  /** Registers what `strike` does; returns a function that does it now instead. Each is done at most once. */
  later(what: string, putAway: () => Promise<void>): () => Promise<void>
  /** Puts everything away, whatever of it fails; resolves to what failed, in words. Safe to repeat. */
  strike(): Promise<string[]>
}

/** The database once, twice restored, its repository, and the write-ahead logs of three servers. */
const SPACE_FACTOR = 5
const SPACE_EXTRA_MEGABYTES = 700

/**
 * Makes the directory, or takes a given one that is absent or empty. Rejects with `target-not-empty`, or with
 * `precondition-failed` if there is not enough room. With `strike` a directory that was made here is removed, one that
 * was given is emptied of what `keep` does not name.
 */
export async function makeStage(
  given: string | undefined,
  sizeMegabytes: number,
  isRoot: boolean,
  keep: readonly string[],
): Promise<Stage> {
  const directory = given === undefined ? await mkdtemp(join(tmpdir(), 'regain-demo-')) : resolve(given)
  if (given !== undefined) await takeEmpty(directory)
  // PostgreSQL, which refuses to run as root, must be able to reach what is its own below.
  await chmod(directory, isRoot ? 0o711 : 0o700)

  const tasks: { what: string; run: () => Promise<void> }[] = []
  const stage: Stage = {
    directory,
    later(what, putAway) {
      let done: Promise<void> | null = null
      const run = () => {
        done ??= putAway()
        return done
      }
      tasks.push({ what, run })
      return run
    },
    async strike() {
      const failed: string[] = []
      for (const { what, run } of tasks.reverse()) {
        await run().catch((error: unknown) => {
          failed.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
        })
      }
      tasks.length = 0
      return failed
    },
  }
  stage.later(`removing ${directory}`, () => clear(directory, given === undefined, keep))
  try {
    if (isRoot) await checkReach(directory)
    await checkSpace(directory, sizeMegabytes)
  } catch (error) {
    await stage.strike()
    throw error
  }
  return stage
}

async function takeEmpty(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true })
  if ((await readdir(directory)).length === 0) return
  throw new RegainError(
    'target-not-empty',
    `${directory} is not empty, and the demo destroys things. Nothing was done.`,
    {
      hint: 'Name an empty or new directory with --dir, or leave it out.',
    },
  )
}

async function clear(directory: string, isOurs: boolean, keep: readonly string[]): Promise<void> {
  if (isOurs) return rm(directory, { recursive: true, force: true })
  for (const name of await readdir(directory)) {
    if (!keep.includes(name)) await rm(join(directory, name), { recursive: true, force: true })
  }
}

/** PostgreSQL refuses to run as root, so it runs under another user, who must be able to get to its data. */
async function checkReach(directory: string): Promise<void> {
  for (let folder = dirname(directory); ; folder = dirname(folder)) {
    if (((await stat(folder)).mode & 0o001) === 0) {
      throw new RegainError(
        'precondition-failed',
        `PostgreSQL does not run as root, and other users may not enter ${folder}. Nothing was done.`,
        { hint: 'Name a directory elsewhere with --dir, or run the demo as an ordinary user.' },
      )
    }
    if (dirname(folder) === folder) return
  }
}

async function checkSpace(directory: string, sizeMegabytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory)
  const freeMegabytes = Math.floor((bavail * bsize) / 1e6)
  const neededMegabytes = sizeMegabytes * SPACE_FACTOR + SPACE_EXTRA_MEGABYTES
  if (freeMegabytes >= neededMegabytes) return
  throw new RegainError(
    'precondition-failed',
    `The demo needs ${neededMegabytes} MB in ${dirname(directory)}, and ${freeMegabytes} MB are free. Nothing was done.`,
    { hint: 'Name a directory elsewhere with --dir, or make the shop smaller with --size 100.' },
  )
}
