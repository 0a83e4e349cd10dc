import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Command, execute } from './run.ts'
import type { Setting } from './setting.ts'

/** borg with zstd level 1, encrypted and authenticated as everyone else here. */
export interface Borg {
  name: string
  repository: string
  create(archive: string, paths: readonly string[]): Command
  /** Into the working directory `target`. */
  extract(archive: string, target: string, path?: string): Command
  /** A new, empty repository. */
  reset(): Promise<void>
}

/** Null if it is not there. */
export async function findBorg(setting: Setting, place: string): Promise<Borg | null> {
  const { borg } = setting
  if (borg === null) return null
  const directory = join(setting.directory, place)
  mkdirSync(directory, { recursive: true })
  const repository = join(directory, 'borg')
  const env = {
    BORG_PASSPHRASE: 'benchmark',
    BORG_BASE_DIR: join(directory, 'borg-home'),
    BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes',
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
  }
  const version = (await execute({ argv: [borg, '--version'] })).trim().split(' ').at(-1)
  return {
    name: `borg ${version} -C zstd,1`,
    repository,
    // 1: warnings, such as files that could not be read.
    create: (archive, paths) => ({
      argv: [borg, 'create', '-C', 'zstd,1', `${repository}::${archive}`, ...paths],
      env,
      accept: [0, 1],
    }),
    extract: (archive, target, path) => ({
      argv: [borg, 'extract', `${repository}::${archive}`, ...(path === undefined ? [] : [path])],
      env,
      cwd: target,
      accept: [0, 1],
    }),
    async reset() {
      rmSync(repository, { recursive: true, force: true })
      rmSync(join(directory, 'borg-home'), { recursive: true, force: true })
      await execute({ argv: [borg, 'init', '-e', 'repokey', repository], env })
    },
  }
}
