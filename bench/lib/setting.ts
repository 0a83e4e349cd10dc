import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { parseArgs } from 'node:util'
import { execute } from './run.ts'

/** Where a benchmark works and whom it meets. */
export interface Setting {
  names: string[]
  rounds: number
  /** Made for this run, removed after it. */
  directory: string
  /** Places elsewhere that a row made; removed with the directory. */
  alsoRemoved: string[]
  /** What a row leaves running, to be ended after it, last thing first. */
  undo: (() => Promise<void>)[]
  /** Real trees to back up. */
  trees: string[]
  /** Data small enough to try the harness itself; its results are not written. */
  isTrial: boolean
  regain: string
  restic: string | null
  borg: string | null
  /** Root of a tree with PostgreSQL 17 and pgBackRest, entered by chroot. */
  pgRoot: string | null
}

const USAGE = `npm run bench -- [NAME ...] [--rounds N] [--work DIR] [--tree DIR ...] [--trial]
Peers are looked for on PATH, or named: --restic FILE, --borg FILE, --pgroot DIR (or RESTIC, BORG, PGROOT).`

export function readSetting(argv: readonly string[], environment: NodeJS.ProcessEnv): Setting {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      rounds: { type: 'string' },
      work: { type: 'string' },
      tree: { type: 'string', multiple: true },
      trial: { type: 'boolean', default: false },
      restic: { type: 'string' },
      borg: { type: 'string' },
      pgroot: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    process.exit(0)
  }
  const root = values.work ?? tmpdir()
  mkdirSync(root, { recursive: true })
  const pgRoot = values.pgroot ?? environment.PGROOT ?? null
  return {
    names: positionals,
    rounds: Number(values.rounds ?? (values.trial ? 1 : 5)),
    directory: mkdtempSync(join(root, 'regain-bench-')),
    alsoRemoved: [],
    undo: [],
    trees: values.tree ?? (values.trial ? ['/usr/share/doc'] : ['/usr/lib', '/usr/share']),
    isTrial: values.trial,
    regain: join(import.meta.dirname, '..', '..', 'regain'),
    restic: values.restic ?? environment.RESTIC ?? findOnPath('restic', environment),
    borg: values.borg ?? environment.BORG ?? findOnPath('borg', environment),
    pgRoot: pgRoot !== null && existsSync(join(pgRoot, 'usr/bin/pgbackrest')) ? pgRoot : null,
  }
}

export function leaveSetting(setting: Setting): void {
  for (const place of [setting.directory, ...setting.alsoRemoved]) rmSync(place, { recursive: true, force: true })
}

function findOnPath(program: string, environment: NodeJS.ProcessEnv): string | null {
  const folders = (environment.PATH ?? '').split(delimiter)
  return folders.map((folder) => join(folder, program)).find((path) => existsSync(path)) ?? null
}

/** A configuration of Regain in a directory of its own, for one source. */
export interface RegainPlace {
  config: string
  /** Its state directory. */
  state: string
  /** Directory of its repository. */
  repository: string
  /** Arguments of a command. */
  argv(...args: string[]): string[]
  /** Key and repository made anew; what was there is gone. */
  reset(): Promise<void>
}

/** A contest is not lost to what else this machine does: peers do not wait for it either. */
const NEVER_WAITS = '{ busy: 100% }'

/** `source` is the YAML of one source, `limits` that of its service's limits, in flow style. */
export function regainPlace(setting: Setting, name: string, source: string, limits = NEVER_WAITS): RegainPlace {
  const directory = join(setting.directory, name)
  mkdirSync(directory, { recursive: true })
  const config = join(directory, 'regain.yaml')
  const state = join(directory, 'state')
  const repository = join(directory, 'repository')
  writeFileSync(
    config,
    `version: 1
state: ${state}
destinations: { local: { type: local, path: ${repository} } }
keys: { main: { type: file, path: ${join(directory, 'main.key')} } }
services: { bench: { key: main, destinations: [local], sources: { data: ${source} }, retention: keep-all, limits: ${limits} } }
`,
  )
  const argv = (...args: string[]) => [setting.regain, ...args, '--config', config, '--quiet']
  return {
    config,
    state,
    repository,
    argv,
    async reset() {
      rmSync(repository, { recursive: true, force: true })
      rmSync(state, { recursive: true, force: true })
      await execute({ argv: argv('init', '--yes') })
    },
  }
}

/** What everything below takes on disk: '123.4 MB'. */
export async function diskUsage(directory: string): Promise<string> {
  const bytes = Number((await execute({ argv: ['du', '-s', '--block-size=1', directory] })).split('\t')[0])
  return `${(bytes / 1e6).toFixed(1)} MB`
}

/** Reads everything once, so that it is in the page cache. */
export async function warm(paths: readonly string[]): Promise<void> {
  await execute({ argv: ['bash', '-c', 'tar -cf - "$@" 2>/dev/null | cat >/dev/null', 'warm', ...paths] })
}
