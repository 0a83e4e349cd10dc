import { type BigIntStats, lstatSync, readlinkSync } from 'node:fs'
import type { Entry, EntryPath, EntryType } from '../model.ts'
import { errorCode, getXattr, listXattrs, type Name } from './libc.ts'
import { bytesToPath, latin1ToPath } from './names.ts'
import type { OwnerNames } from './owners.ts'
import { reach } from './reach.ts'

export interface AttributeOptions {
  owners: OwnerNames
  /** Hears of an attribute that could not be read, in one sentence; the entry is then without it. */
  problem?(detail: string): void
}

/** What a walk needs besides the entry itself. */
export interface Inspected {
  entry: Entry
  /** Number of names of the inode: above 1 it may be met again as a hard link. */
  links: number
  stat: BigIntStats
}

/** Everything that is kept of the thing at `path`, without following a link. Throws with code ENOENT if it is gone. */
export function readAttributes(path: Name, relative: EntryPath, options: AttributeOptions): Entry {
  return inspect(path, relative, options).entry
}

export function inspect(path: Name, relative: EntryPath, options: AttributeOptions): Inspected {
  return reach(path, (reachable) => {
    const stat = lstatSync(reachable, { bigint: true })
    return { entry: toEntry(reachable, stat, relative, options), links: Number(stat.nlink), stat }
  })
}

function toEntry(path: string | Buffer, stat: BigIntStats, relative: EntryPath, options: AttributeOptions): Entry {
  const type = typeOf(stat)
  const uid = Number(stat.uid)
  const gid = Number(stat.gid)
  const entry: Entry = {
    path: relative,
    type,
    mode: Number(stat.mode) & 0o7777,
    uid,
    gid,
    mtime: stat.mtimeNs.toString(),
    ctime: stat.ctimeNs.toString(),
    inode: stat.ino.toString(),
    device: stat.dev.toString(),
  }
  const owner = options.owners.user(uid)
  if (owner !== undefined) entry.owner = owner
  const group = options.owners.group(gid)
  if (group !== undefined) entry.group = group
  if (type === 'file') entry.size = Number(stat.size)
  if (type === 'symlink') entry.target = bytesToPath(readlinkSync(path, { encoding: 'buffer' }))
  if (type === 'character-device' || type === 'block-device') {
    entry.major = majorOf(stat.rdev)
    entry.minor = minorOf(stat.rdev)
  }
  const xattrs = readXattrs(path, options)
  if (xattrs !== null) entry.xattrs = xattrs
  return entry
}

const S_IFMT = 0o170000
// A Map, not an object literal: Biome 2.6's formatter rewrites octal keys to wrong decimal ones.
const TYPES = new Map<number, EntryType>([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o120000, 'symlink'],
  [0o010000, 'fifo'],
  [0o140000, 'socket'],
  [0o020000, 'character-device'],
  [0o060000, 'block-device'],
])

function typeOf(stat: BigIntStats): EntryType {
  const type = TYPES.get(Number(stat.mode) & S_IFMT)
  if (type === undefined) throw new Error(`Linux has no file type ${(Number(stat.mode) & S_IFMT).toString(8)}`)
  return type
}

/** gnu_dev_major and gnu_dev_minor of sysmacros.h; musl and the kernel's stat agree. */
function majorOf(device: bigint): number {
  return Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n))
}

function minorOf(device: bigint): number {
  return Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n))
}

/** Name to base64, sorted by name so that the same attributes make the same record; null if there are none. */
function readXattrs(path: string | Buffer, options: AttributeOptions): Record<string, string> | null {
  let names: string[]
  try {
    names = listXattrs(path)
  } catch (error) {
    // Gone between lstat and here is the caller's business; anything else costs only these attributes.
    if (errorCode(error) === 'ENOENT') throw error
    options.problem?.(`its extended attributes cannot be listed (${errorCode(error)})`)
    return null
  }
  if (names.length === 0) return null
  const values: Record<string, string> = {}
  let count = 0
  for (const raw of names.sort()) {
    if (!isKept(raw)) continue
    const value = readXattr(path, raw, options)
    if (value === null) continue
    values[latin1ToPath(raw)] = value.toString('base64')
    count += 1
  }
  return count === 0 ? null : values
}

function readXattr(path: string | Buffer, raw: string, options: AttributeOptions): Buffer | null {
  try {
    return getXattr(path, Buffer.from(raw, 'latin1'))
  } catch (error) {
    if (errorCode(error) === 'ENOENT') throw error
    options.problem?.(`its extended attribute ${latin1ToPath(raw)} cannot be read (${errorCode(error)})`)
    return null
  }
}

/**
 * Which attributes belong to the data. ACLs and file capabilities do, and so does what users (user.*) and root
 * (trusted.*, seen only by root) attached. Left out: the other security.* names, because they are this machine's policy
 * (security.selinux labels, security.ima signatures): the restoring machine's own policy gives its labels to new files
 * (restorecon), and a label from elsewhere could open or lock them; and the rest of system.*, which file systems make up.
 */
function isKept(name: string): boolean {
  if (name.startsWith('user.') || name.startsWith('trusted.')) return true
  return name === 'security.capability' || name === 'system.posix_acl_access' || name === 'system.posix_acl_default'
}
