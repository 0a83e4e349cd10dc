import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Command, execute } from './run.ts'
import type { Setting } from './setting.ts'

/** restic with its defaults: compression auto, packs of 16 MiB. */
export interface Restic {
  name: string
  repository: string
  command(...args: string[]): Command
  /** A new, empty repository. */
  reset(): Promise<void>
}

/** Null if it is not there. */
export async function findRestic(setting: Setting, place: string): Promise<Restic | null> {
  const { restic } = setting
  if (restic === null) return null
  const directory = join(setting.directory, place)
  mkdirSync(directory, { recursive: true })
  const repository = join(directory, 'restic')
  const password = join(directory, 'password')
  writeFileSync(password, 'benchmark\n', { mode: 0o600 })
  const env = {
    RESTIC_REPOSITORY: repository,
    RESTIC_PASSWORD_FILE: password,
    RESTIC_CACHE_DIR: join(directory, 'cache'),
    RESTIC_PROGRESS_FPS: '0.1',
  }
  // 3: some files could not be read, which happens to all programs alike.
  const command = (...args: string[]) => ({ argv: [restic, '--quiet', ...args], env, accept: [0, 3] })
  const version = /restic (\S+)/.exec(await execute({ argv: [restic, 'version'] }))?.[1] ?? ''
  return {
    name: `restic ${version}`,
    repository,
    command,
    async reset() {
      rmSync(repository, { recursive: true, force: true })
      rmSync(join(directory, 'cache'), { recursive: true, force: true })
      await execute(command('init'))
    },
  }
}
