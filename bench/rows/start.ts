import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Contest, Contestant } from '../lib/contest.ts'
import { findRestic } from '../lib/restic.ts'
import { execute, measure } from '../lib/run.ts'
import { regainPlace, type Setting } from '../lib/setting.ts'

/** How long the shortest commands take: nothing but the start. */
export async function start(setting: Setting): Promise<Contest[]> {
  const tree = join(setting.directory, 'start', 'tree')
  mkdirSync(tree, { recursive: true })
  for (let i = 0; i < 100; i++) writeFileSync(join(tree, `file ${i}`), `content ${i}\n`)
  const regain = regainPlace(setting, 'start', `{ type: files, paths: ${JSON.stringify([tree])} }`)
  await regain.reset()
  await execute({ argv: regain.argv('backup', 'bench') })
  const versions: Contestant[] = [{ name: 'regain', run: () => measure({ argv: [setting.regain, '--version'] }) }]
  const lists: Contestant[] = [{ name: 'regain', run: () => measure({ argv: regain.argv('points') }) }]
  const restic = await findRestic(setting, 'start')
  if (restic) {
    await restic.reset()
    await execute(restic.command('backup', tree))
    versions.push({ name: restic.name, run: () => measure(restic.command('version')) })
    lists.push({ name: restic.name, run: () => measure(restic.command('snapshots')) })
  }
  return [
    { name: '--version', notes: ['Wanted: under 0.150 s.'], contestants: versions, bars: {} },
    {
      name: 'points',
      notes: ['regain points, restic snapshots: one point of 100 small files.'],
      contestants: lists,
      bars: { restic: 1 },
    },
  ]
}
