import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { findBorg } from '../lib/borg.ts'
import type { Contest, Contestant } from '../lib/contest.ts'
import { findRestic } from '../lib/restic.ts'
import { measure, quote, shell } from '../lib/run.ts'
import { diskUsage, regainPlace, type Setting, warm } from '../lib/setting.ts'
import { changeOnePercent, copyTrees, describeTrees, filesBelow } from '../lib/tree.ts'

/** First backup of real trees into an empty repository. */
export async function filesFirst(setting: Setting): Promise<Contest[]> {
  const { trees } = setting
  await warm(trees)
  const regain = regainPlace(setting, 'files-first', `{ type: files, paths: ${JSON.stringify(trees)} }`)
  const contestants: Contestant[] = [
    {
      name: 'regain',
      prepare: regain.reset,
      run: () => measure({ argv: regain.argv('backup', 'bench'), accept: [0, 3] }),
      left: async () => ({ repository: await diskUsage(regain.repository) }),
    },
  ]
  const restic = await findRestic(setting, 'files-first')
  if (restic) {
    contestants.push({
      name: restic.name,
      prepare: restic.reset,
      run: () => measure(restic.command('backup', ...trees)),
      left: async () => ({ repository: await diskUsage(restic.repository) }),
    })
  }
  const borg = await findBorg(setting, 'files-first')
  if (borg) {
    contestants.push({
      name: borg.name,
      prepare: borg.reset,
      run: () => measure(borg.create('first', trees)),
      left: async () => ({ repository: await diskUsage(borg.repository) }),
    })
  }
  const archive = join(setting.directory, 'files-first', 'floor.tar.zst')
  contestants.push({
    name: 'tar | zstd -1 -T2',
    prepare: async () => rmSync(archive, { force: true }),
    run: () =>
      measure(shell(`tar -cf - ${trees.map(quote).join(' ')} 2>/dev/null | zstd -q -1 -T2 -o ${quote(archive)}`)),
    left: async () => ({ repository: await diskUsage(archive) }),
  })
  const notes = [`First backup of ${await describeTrees(trees)}; ${trees.join(' and ')}.`]
  return [{ name: 'files-first', notes, contestants, bars: { restic: 4, borg: 2, tar: 0.9 } }]
}

/** The same tree again: unchanged, then with one file in a hundred changed. */
export async function filesAgain(setting: Setting): Promise<Contest[]> {
  const tree = join(setting.directory, 'files-again', 'tree')
  await copyTrees(setting.trees, tree)
  await warm([tree])
  const regain = regainPlace(setting, 'files-again', `{ type: files, paths: ${JSON.stringify([tree])} }`)
  await regain.reset()
  const contestants: Contestant[] = [
    { name: 'regain', run: () => measure({ argv: regain.argv('backup', 'bench'), accept: [0, 3] }) },
  ]
  const restic = await findRestic(setting, 'files-again')
  if (restic) {
    await restic.reset()
    contestants.push({ name: restic.name, run: () => measure(restic.command('backup', tree)) })
  }
  const borg = await findBorg(setting, 'files-again')
  if (borg) {
    await borg.reset()
    let archive = 0
    contestants.push({ name: borg.name, run: () => measure(borg.create(`archive-${archive++}`, [tree])) })
  }
  const what = await describeTrees([tree])
  const files = filesBelow(tree)
  // The first contest's warming-up round is each program's first backup of the tree.
  return [
    {
      name: 'unchanged',
      notes: [`Second and later backups of ${what}, nothing changed.`],
      contestants,
      bars: { restic: 3 },
    },
    {
      name: '1 % changed',
      notes: [
        `A line was appended to about one in a hundred of ${files.length.toLocaleString('en-US')} files before each round.`,
      ],
      contestants,
      async beforeRound(round) {
        changeOnePercent(files, round)
      },
      bars: { restic: 3 },
    },
  ]
}
