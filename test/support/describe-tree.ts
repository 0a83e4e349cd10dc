import { createHash, type Hash } from 'node:crypto'
import * as fs from 'node:fs'
import { dataExtents } from '../../src/filesystem/extents.ts'
import { errorCode, getXattr, listXattrs } from '../../src/filesystem/libc.ts'
import { bytesToPath, displayPath } from '../../src/filesystem/names.ts'
import { reach } from '../../src/filesystem/reach.ts'

const MIB = 1024 * 1024

/**
 * Everything about a tree as lines of text, one a name, sorted: two trees are the same if these are. Holes are part of
 * it; inode numbers, change and access times are not. A folder or file that this user cannot read says so.
 */
export async function describeTree(directory: string): Promise<string[]> {
  const lines: string[] = []
  const groups = new Map<string, string>()
  const visit = (path: Buffer, shown: string): void => {
    const stat = reach(path, (reachable) => fs.lstatSync(reachable, { bigint: true }))
    lines.push(`${shown} ${describe(path, stat)}${linkGroup(groups, shown, stat)}`)
    if (!stat.isDirectory()) return
    for (const name of listNames(path)) {
      visit(Buffer.concat([path, Buffer.from('/'), name]), `${shown}/${displayPath(bytesToPath(name))}`)
    }
  }
  visit(Buffer.from(directory), '.')
  return lines
}

/** Lines that only one of two descriptions has, `-` for the first and `+` for the second; empty: the trees are equal. */
export function diffTrees(expected: readonly string[], found: readonly string[]): string[] {
  const before = new Set(expected)
  const after = new Set(found)
  return [
    ...expected.filter((line) => !after.has(line)).map((line) => `- ${line}`),
    ...found.filter((line) => !before.has(line)).map((line) => `+ ${line}`),
  ].sort((a, b) => (a.slice(2) < b.slice(2) ? -1 : 1))
}

/** Removes a tree however deep, and with folders that may not be entered as they are. */
export function removeTree(directory: string): void {
  const names = fs.existsSync(directory) ? listNames(Buffer.from(directory)) : []
  for (const name of names) removeBelow(Buffer.concat([Buffer.from(`${directory}/`), name]))
  fs.rmSync(directory, { recursive: true, force: true })
}

function removeBelow(path: Buffer): void {
  if (!reach(path, (reachable) => fs.lstatSync(reachable)).isDirectory()) {
    reach(path, (reachable) => fs.unlinkSync(reachable))
    return
  }
  reach(path, (reachable) => fs.chmodSync(reachable, 0o700))
  for (const name of listNames(path)) removeBelow(Buffer.concat([path, Buffer.from('/'), name]))
  reach(path, (reachable) => fs.rmdirSync(reachable))
}

function listNames(path: Buffer): Buffer[] {
  try {
    const names = reach(path, (reachable) => fs.readdirSync(reachable, { encoding: 'buffer' }))
    return names.sort(Buffer.compare)
  } catch (error) {
    if (errorCode(error) !== 'EACCES') throw error
    return []
  }
}

function describe(path: Buffer, stat: fs.BigIntStats): string {
  const parts = [
    `type=${(Number(stat.mode) >> 12).toString(8)}`,
    `mode=${(Number(stat.mode) & 0o7777).toString(8).padStart(4, '0')}`,
    `owner=${stat.uid}:${stat.gid}`,
    `mtime=${stat.mtimeNs}`,
  ]
  if (stat.isSymbolicLink()) {
    const target = reach(path, (reachable) => fs.readlinkSync(reachable, { encoding: 'buffer' }))
    parts.push(`target=${displayPath(bytesToPath(target))}`)
  }
  if (stat.isCharacterDevice() || stat.isBlockDevice()) parts.push(`device=${stat.rdev}`)
  if (stat.isFile()) parts.push(`size=${stat.size}`, describeContent(path, Number(stat.size)))
  parts.push(...reach(path, describeXattrs))
  return parts.join(' ')
}

function describeXattrs(path: string | Buffer): string[] {
  const names = listXattrs(path).filter((name) => name !== 'security.selinux')
  return names.sort().map((name) => {
    const bytes = Buffer.from(name, 'latin1')
    return `${displayPath(bytesToPath(bytes))}=${getXattr(path, bytes)?.toString('hex')}`
  })
}

function describeContent(path: Buffer, size: number): string {
  let fd: number
  try {
    fd = reach(path, (reachable) => fs.openSync(reachable, 'r'))
  } catch (error) {
    if (errorCode(error) !== 'EACCES') throw error
    return 'content=unreadable'
  }
  try {
    const extents = dataExtents(fd, size)
    const hasHoles = size > 0 && !(extents.length === 1 && extents[0]?.[0] === 0 && extents[0][1] === size)
    const hash = createHash('sha256')
    // Holes read as zeros by definition, and where they are is told; gigabytes of them need not be hashed.
    for (const [offset, length] of extents) hashRange(hash, fd, offset, length)
    return `sha256=${hash.digest('hex')}${hasHoles ? ` data=${JSON.stringify(extents)}` : ''}`
  } finally {
    fs.closeSync(fd)
  }
}

function hashRange(hash: Hash, fd: number, offset: number, length: number): void {
  const buffer = Buffer.allocUnsafe(Math.min(length, 4 * MIB))
  for (let done = 0; done < length; ) {
    const got = fs.readSync(fd, buffer, 0, Math.min(buffer.length, length - done), offset + done)
    if (got === 0) return
    hash.update(buffer.subarray(0, got))
    done += got
  }
}

function linkGroup(groups: Map<string, string>, shown: string, stat: fs.BigIntStats): string {
  if (stat.isDirectory() || stat.nlink < 2n) return ''
  const key = `${stat.dev}:${stat.ino}`
  const first = groups.get(key) ?? shown
  groups.set(key, first)
  return ` names=${stat.nlink} first=${first}`
}
