import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Contest, Contestant } from '../lib/contest.ts'
import { makeLargeFile, makeSmallFiles } from '../lib/made-trees.ts'
import { findRestic } from '../lib/restic.ts'
import { measure } from '../lib/run.ts'
import { regainPlace, type Setting, warm } from '../lib/setting.ts'

const GIB = 1024 ** 3

/** First backup of a million small files, and of fewer, so that it shows whether memory grows with them. */
export async function filesMany(setting: Setting): Promise<Contest[]> {
  const counts = setting.isTrial ? [1_000] : [100_000, 1_000_000]
  const contests: Contest[] = []
  for (const count of counts) {
    const tree = join(setting.directory, 'files-many', `${count}`)
    makeSmallFiles(tree, count)
    await warm([tree])
    const bars = { restic: 3 }
    contests.push(await firstBackups(setting, `${count.toLocaleString('en-US')} small files`, tree, bars))
  }
  return contests
}

/** Ourselves against the size: time may grow no faster than it, memory not at all. */
export async function scale(setting: Setting): Promise<Contest[]> {
  const small = setting.isTrial ? [100, 1_000] : [10_000, 100_000, 1_000_000]
  const large = setting.isTrial ? [GIB / 64] : [GIB, 4 * GIB, 16 * GIB]
  const trees: [name: string, tree: string, make: (tree: string) => void][] = [
    ...small.map((count): (typeof trees)[number] => [
      `${count.toLocaleString('en-US')} small files`,
      `files-${count}`,
      (tree) => makeSmallFiles(tree, count),
    ]),
    ...large.map((bytes): (typeof trees)[number] => [
      `one file of ${bytes / GIB} GiB`,
      `bytes-${bytes}`,
      (tree) => makeLargeFile(join(tree, 'file'), bytes),
    ]),
  ]
  return trees.map(([name, folder, make]) => {
    const tree = join(setting.directory, 'scale', folder)
    let made = false
    const contestant = ourFirstBackup(setting, folder, tree)
    return {
      name,
      notes: ['First backup into an empty repository.'],
      contestants: [contestant],
      async beforeRound(round) {
        if (!made) make(tree)
        made = true
        if (round === 0) await warm([tree])
      },
      bars: {},
    }
  })
}

async function firstBackups(
  setting: Setting,
  name: string,
  tree: string,
  bars: Record<string, number>,
): Promise<Contest> {
  const contestants = [ourFirstBackup(setting, name.replaceAll(/\W/g, '-'), tree)]
  const restic = await findRestic(setting, 'files-many')
  if (restic) {
    contestants.push({
      name: restic.name,
      prepare: restic.reset,
      run: () => measure(restic.command('backup', tree)),
      clear: async () => rmSync(restic.repository, { recursive: true, force: true }),
    })
  }
  return { name, notes: ['First backup into an empty repository.'], contestants, bars }
}

function ourFirstBackup(setting: Setting, place: string, tree: string): Contestant {
  const regain = regainPlace(setting, place, `{ type: files, paths: ${JSON.stringify([tree])} }`)
  return {
    name: 'regain',
    prepare: regain.reset,
    run: () => measure({ argv: regain.argv('backup', 'bench'), accept: [0, 3] }),
    clear: async () => rmSync(regain.repository, { recursive: true, force: true }),
  }
}
