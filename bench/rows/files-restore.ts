import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, relative } from 'node:path'
import { findBorg } from '../lib/borg.ts'
import type { Contest, Contestant } from '../lib/contest.ts'
import { findRestic } from '../lib/restic.ts'
import { execute, measure } from '../lib/run.ts'
import { regainPlace, type Setting, warm } from '../lib/setting.ts'
import { copyTrees, describeTrees, filesBelow } from '../lib/tree.ts'

const MEMORY = '/dev/shm'

/** Whole restore to memory, where the disk is no limit, and to disk; and one file out of all. */
export async function filesRestore(setting: Setting): Promise<Contest[]> {
  const tree = join(setting.directory, 'files-restore', 'tree')
  await copyTrees(setting.trees, tree)
  await warm([tree])
  const regain = regainPlace(setting, 'files-restore', `{ type: files, paths: ${JSON.stringify([tree])} }`)
  await regain.reset()
  await execute({ argv: regain.argv('backup', 'bench'), accept: [0, 3] })
  const restic = await findRestic(setting, 'files-restore')
  if (restic) {
    await restic.reset()
    await execute(restic.command('backup', tree))
  }
  const borg = await findBorg(setting, 'files-restore')
  if (borg) {
    await borg.reset()
    await execute(borg.create('first', [tree]))
  }

  /** Each program restores into `target`, which is new and empty; `path` is one file of the tree. */
  const contestants = (target: string, path?: string): Contestant[] => {
    const place = {
      async prepare() {
        rmSync(target, { recursive: true, force: true })
        mkdirSync(target, { recursive: true })
      },
      clear: async () => rmSync(target, { recursive: true, force: true }),
    }
    const selected = path === undefined ? [] : ['--path', relative(tree, path)]
    const all: Contestant[] = [
      {
        ...place,
        name: 'regain',
        run: () => measure({ argv: regain.argv('restore', 'bench', '--to', target, ...selected) }),
      },
    ]
    if (restic) {
      const included = path === undefined ? [] : ['--include', path]
      all.push({
        ...place,
        name: restic.name,
        run: () => measure(restic.command('restore', 'latest', '--target', target, ...included)),
      })
    }
    if (borg) all.push({ ...place, name: borg.name, run: () => measure(borg.extract('first', target, path?.slice(1))) })
    if (path === undefined) {
      all.push({ ...place, name: 'cp -a', run: () => measure({ argv: ['cp', '-a', tree, join(target, 'copy')] }) })
    }
    return all
  }

  const what = await describeTrees([tree])
  const files = filesBelow(tree)
  const one = files[Math.floor(files.length / 2)]
  const contests: Contest[] = []
  if (existsSync(MEMORY)) {
    const memory = mkdtempSync(join(MEMORY, 'regain-bench-'))
    setting.alsoRemoved.push(memory)
    contests.push({
      name: 'to memory',
      notes: [`Whole restore of ${what} to tmpfs.`],
      contestants: contestants(join(memory, 'target')),
      bars: { restic: 2, cp: 1 },
    })
  }
  contests.push({
    name: 'to disk',
    notes: [`Whole restore of ${what} to disk.`],
    contestants: contestants(join(setting.directory, 'files-restore', 'target')),
    // At most 1.15 of what cp -a takes.
    bars: { restic: 2, cp: 0.87 },
  })
  contests.push({
    name: 'one file',
    notes: [`One file out of ${files.length.toLocaleString('en-US')}.`],
    contestants: contestants(join(setting.directory, 'files-restore', 'target'), one),
    bars: { restic: 1 },
  })
  return contests
}

/** Every byte of a repository read and checked. */
export async function verify(setting: Setting): Promise<Contest[]> {
  const { trees } = setting
  const regain = regainPlace(setting, 'verify', `{ type: files, paths: ${JSON.stringify(trees)} }`)
  await regain.reset()
  await execute({ argv: regain.argv('backup', 'bench'), accept: [0, 3] })
  await warm([regain.repository])
  const contestants: Contestant[] = [
    { name: 'regain', run: () => measure({ argv: regain.argv('verify', 'bench', '--read-data') }) },
  ]
  const restic = await findRestic(setting, 'verify')
  if (restic) {
    await restic.reset()
    await execute(restic.command('backup', ...trees))
    await warm([restic.repository])
    contestants.push({ name: `${restic.name}`, run: () => measure(restic.command('check', '--read-data')) })
  }
  const notes = [`Read and check everything of a repository of ${await describeTrees(trees)}.`]
  return [{ name: 'verify', notes, contestants, bars: { restic: 2 } }]
}
