import { createHash } from 'node:crypto'
import { appendFileSync, mkdirSync, readdirSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { execute } from './run.ts'

/** Copies real trees below `target`, so that they may be changed; they look as they did, times included. */
export async function copyTrees(trees: readonly string[], target: string): Promise<void> {
  mkdirSync(target, { recursive: true })
  for (const tree of trees) await execute({ argv: ['cp', '-a', '--parents', tree, target] })
}

/** Regular files below, in a fixed order. Links to folders are not followed: real trees have circles of them. */
export function filesBelow(directory: string): string[] {
  const files: string[] = []
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) for (const below of filesBelow(path)) files.push(below)
    else if (entry.isFile()) files.push(path)
  }
  return files.sort()
}

/** Appends a line to one file in a hundred, chosen by the hash of its name and the round. Returns how many. */
export function changeOnePercent(files: readonly string[], round: number): number {
  let changed = 0
  for (const file of files) {
    const hash = createHash('sha1').update(`${round} ${file}`).digest()
    if (hash.readUInt32LE() % 100 !== 0) continue
    appendFileSync(file, `changed in round ${round}\n`)
    utimesSync(file, new Date(), new Date())
    changed++
  }
  return changed
}

export async function describeTrees(trees: readonly string[]): Promise<string> {
  const bytes = (await execute({ argv: ['du', '-sc', '--block-size=1', ...trees] })).trim().split('\n').at(-1)
  const dots = await execute({ argv: ['sh', '-c', 'find "$@" -xdev -printf . | wc -c', 'sh', ...trees] })
  const files = Number(dots.trim())
  return `${(Number.parseInt(bytes ?? '0', 10) / 1e9).toFixed(2)} GB on disk, ${files.toLocaleString('en-US')} files and folders`
}
