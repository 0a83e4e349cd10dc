import { createHash } from 'node:crypto'
import { createReadStream, readdirSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { readAttributes } from '../filesystem/attributes.ts'
import { bytesToPath, displayPath, pathToBytes } from '../filesystem/names.ts'
import { readOwnerNames } from '../filesystem/owners.ts'
import type { Entry } from '../model.ts'

/** Everything there is to say about a tree, for comparing it with another: one record of text for each path. */
export type TreeDescription = Map<string, string>

export interface TreeComparison {
  same: number
  /** One line for each difference: what, where. */
  differences: string[]
}

/** Reads a whole tree: names, kinds, modes, owners, times to the nanosecond, attributes, links, and SHA-256 of contents. */
export async function describeTree(root: string): Promise<TreeDescription> {
  const owners = readOwnerNames()
  const tree: TreeDescription = new Map()
  /** First path of each inode: two paths of one inode must be so again. */
  const inodes = new Map<string, string>()
  const problem = (detail: string) => {
    throw new Error(detail)
  }

  await visit('')
  return tree

  async function visit(path: string): Promise<void> {
    const absolute = path === '' ? Buffer.from(root) : Buffer.concat([Buffer.from(`${root}/`), pathToBytes(path)])
    const entry = readAttributes(absolute, path, { owners, problem })
    tree.set(path, await describeEntry(absolute, entry))
    if (entry.type !== 'directory') return
    const names = readdirSync(absolute, { encoding: 'buffer' }).map(bytesToPath).sort()
    for (const name of names) await visit(path === '' ? name : `${path}/${name}`)
  }

  async function describeEntry(absolute: Buffer, entry: Entry): Promise<string> {
    const { type, mode, uid, gid, mtime, size, target, xattrs, inode, device } = entry
    const sorted = Object.entries(xattrs ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
    const facts: Record<string, unknown> = {
      type,
      mode: mode.toString(8),
      uid,
      gid,
      mtime,
      size,
      target,
      xattrs: sorted,
    }
    if (type === 'file') {
      const key = `${device}:${inode}`
      facts.sameFileAs = inodes.get(key) ?? entry.path
      inodes.set(key, String(facts.sameFileAs))
      facts.sha256 = await sha256Of(absolute)
      // How holes are cut may differ between file systems; that there are any must not.
      facts.sparse = (await stat(absolute)).blocks * 512 < (size ?? 0) / 2
    }
    return JSON.stringify(facts)
  }
}

export function compareTrees(expected: TreeDescription, found: TreeDescription): TreeComparison {
  const differences: string[] = []
  for (const [path, facts] of expected) {
    const other = found.get(path)
    const name = path === '' ? 'the folder itself' : displayPath(path)
    if (other === undefined) differences.push(`missing: ${name}`)
    else if (other !== facts) differences.push(`differs: ${name}: ${whatDiffers(facts, other)}`)
  }
  for (const path of found.keys()) if (!expected.has(path)) differences.push(`not expected: ${displayPath(path)}`)
  return { same: expected.size - differences.filter((line) => !line.startsWith('not expected')).length, differences }
}

function whatDiffers(expected: string, found: string): string {
  const before = JSON.parse(expected) as Record<string, unknown>
  const after = JSON.parse(found) as Record<string, unknown>
  return Object.keys(before)
    .filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]))
    .map((key) => `${key} ${JSON.stringify(before[key])} became ${JSON.stringify(after[key])}`)
    .join(', ')
}

async function sha256Of(path: Buffer): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
  return hash.digest('hex')
}
