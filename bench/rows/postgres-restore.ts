import { randomFillSync } from 'node:crypto'
import { closeSync, globSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Contest, Contestant } from '../lib/contest.ts'
import { type BenchServer, startBenchServer } from '../lib/postgres.ts'
import { type Command, execute, measure } from '../lib/run.ts'
import { diskUsage, regainPlace, type Setting } from '../lib/setting.ts'
import { changeBlocks, describe, PGBACKREST_SETTINGS, pgBackRestName } from './postgres.ts'

const GIGABYTES = 2
const LATER_GIGABYTES = 0.5
const INCREMENTS = 100
const PAGE_BYTES = 8192

/** The newest point into an empty directory, and over a copy of it that has changed. No server started. */
export async function pgRestore(setting: Setting): Promise<Contest[]> {
  const server = await startBenchServer(setting, setting.isTrial ? 0.05 : GIGABYTES)
  const regain = regainPlace(setting, 'pg-restore', `{ type: postgres, url: "${server.url}", log: none }`)
  await regain.reset()
  await execute({ argv: regain.argv('backup', 'bench', '--full') })
  await server.resetPgBackRest()
  await execute(server.pgBackRest('--type=full', 'backup'))
  const peer = await pgBackRestName(server)
  const ours = server.outside('ours')
  const restore: Command = { argv: regain.argv('restore', 'bench', '--to', ours) }
  const restoreOver: Command = { argv: [...restore.argv, '--in-place', '--overwrite', ours] }
  const theirs = (...args: string[]) =>
    server.pgBackRest(`--pg1-path=${server.inside('theirs')}`, '--type=immediate', ...args, 'restore')
  return [
    {
      name: 'pg-restore',
      notes: [`Restore of the newest point of ${describe(server)} into an empty directory.`, PGBACKREST_SETTINGS],
      contestants: [
        { ...emptyFolder(server, 'ours'), name: 'regain', run: () => measure(restore) },
        { ...emptyFolder(server, 'theirs'), name: peer, run: () => measure(theirs()) },
      ],
      bars: { pgBackRest: 1 },
    },
    {
      name: 'pg-restore, delta in place',
      notes: [
        'The same over a directory that was restored before, one block of a hundred overwritten since.',
        'Both read and compare everything that is there: pgBackRest with --delta.',
      ],
      contestants: [
        { ...changedFolder(server, 'ours', restore), name: 'regain', run: () => measure(restoreOver) },
        { ...changedFolder(server, 'theirs', theirs()), name: peer, run: () => measure(theirs('--delta')) },
      ],
      bars: { pgBackRest: 1 },
    },
  ]
}

/** What a restore costs after many incremental backups, against one of the same data from a single full backup. */
export async function pgRestoreLater(setting: Setting): Promise<Contest[]> {
  const server = await startBenchServer(setting, setting.isTrial ? 0.05 : LATER_GIGABYTES)
  const source = `{ type: postgres, url: "${server.url}", log: none }`
  const grown = regainPlace(setting, 'grown', source)
  const fresh = regainPlace(setting, 'fresh', source)
  await grown.reset()
  await execute({ argv: grown.argv('backup', 'bench', '--full') })
  const increments = setting.isTrial ? 5 : INCREMENTS
  for (let i = 1; i <= increments; i++) {
    await changeBlocks(server, i)
    await execute({ argv: grown.argv('backup', 'bench') })
  }
  await fresh.reset()
  await execute({ argv: fresh.argv('backup', 'bench', '--full') })
  const contestant = (name: string, { argv, repository }: typeof grown): Contestant => ({
    ...emptyFolder(server, 'ours'),
    name,
    run: () => measure({ argv: argv('restore', 'bench', '--to', server.outside('ours')) }),
    left: async () => ({ repository: await diskUsage(repository) }),
  })
  return [
    {
      name: 'pg-restore-later',
      notes: [
        `Restore of the newest point of ${describe(server)} into an empty directory, after ${increments} incremental backups,`,
        'a row in one block of a hundred changed before each, nothing pruned; and the same data from one full backup.',
      ],
      contestants: [contestant('regain, increments', grown), contestant('full', fresh)],
      bars: { full: 1 },
    },
  ]
}

function emptyFolder(server: BenchServer, name: string): Pick<Contestant, 'prepare' | 'clear'> {
  const clear = async () => rmSync(server.outside(name), { recursive: true, force: true })
  return {
    async prepare() {
      await clear()
      await execute(server.command('mkdir', '-m', '700', server.inside(name)))
    },
    clear,
  }
}

function changedFolder(server: BenchServer, name: string, restore: Command): Pick<Contestant, 'prepare' | 'clear'> {
  const { prepare, clear } = emptyFolder(server, name)
  return {
    async prepare() {
      await prepare?.()
      await execute(restore)
      overwriteBlocks(server.outside(name))
    },
    clear,
  }
}

/** One in a hundred of each relation. */
function overwriteBlocks(folder: string): void {
  const noise = Buffer.alloc(PAGE_BYTES)
  for (const file of globSync(join(folder, 'base/*/[0-9]*'))) {
    const pages = Math.floor(statSync(file).size / PAGE_BYTES)
    const fd = openSync(file, 'r+')
    for (let page = 50; page < pages; page += 100)
      writeSync(fd, randomFillSync(noise), 0, PAGE_BYTES, page * PAGE_BYTES)
    closeSync(fd)
  }
}
