import { type BigIntStats, fstatSync, lstatSync, readlinkSync } from 'node:fs'
import type { Entry, EntryPath, EntryType } from '../model.ts'
import { errorCode, getXattr, getXattrHandle, listXattrs, listXattrsHandle, type Name } from './libc.ts'
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

/** What an entry says of a regular file besides its place and content. */
export type FileAttributes = Omit<Entry, 'path' | 'type' | 'size' | 'ctime' | 'inode'> &
  Required<Pick<Entry, 'size' | 'ctime' | 'inode'>>

/**
 * The same of an open regular file. Its change time is from before the first attribute was read: if a later look finds
 * it unchanged, all of them are of one moment.
 */
export function attributesOfFile(fd: number, options: AttributeOptions): FileAttributes {
  const stat = fstatSync(fd, { bigint: true })
  const attributes: FileAttributes = {
    ...statAttributes(stat, options),
    size: Number(stat.size),
    ctime: stat.ctimeNs.toString(),
    inode: stat.ino.toString(),
  }
  const list = () => listXattrsHandle(fd)
  const xattrs = readXattrs({ list, get: (name) => getXattrHandle(fd, name) }, options)
  if (xattrs !== null) attributes.xattrs = xattrs
  return attributes
}

function toEntry(path: string | Buffer, stat: BigIntStats, relative: EntryPath, options: AttributeOptions): Entry {
  const type = typeOf(stat)
  const entry: Entry = { path: relative, type, ...statAttributes(stat, options) }
  if (type === 'file') entry.size = Number(stat.size)
  if (type === 'symlink') entry.target = bytesToPath(readlinkSync(path, { encoding: 'buffer' }))
  if (type === 'character-device' || type === 'block-device') {
    entry.major = majorOf(stat.rdev)
    entry.minor = minorOf(stat.rdev)
  }
  const list = () => listXattrs(path)
  const xattrs = readXattrs({ list, get: (name) => getXattr(path, name) }, options)
  if (xattrs !== null) entry.xattrs = xattrs
  return entry
}

function statAttributes(stat: BigIntStats, options: AttributeOptions): Omit<Entry, 'path' | 'type'> {
  const uid = Number(stat.uid)
  const gid = Number(stat.gid)
  const attributes: Omit<Entry, 'path' | 'type'> = {
    mode: Number(stat.mode) & 0o7777,
    uid,
    gid,
    mtime: stat.mtimeNs.toString(),
    ctime: stat.ctimeNs.toString(),
    inode: stat.ino.toString(),
    device: stat.dev.toString(),
  }
  const owner = options.owners.user(uid)
  if (owner !== undefined) attributes.owner = owner
  const group = options.owners.group(gid)
  if (group !== undefined) attributes.group = group
  return attributes
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

interface XattrAccess {
  list(): string[]
  get(name: Buffer): Buffer | null
}

/** Name to base64, sorted by name so that the same attributes make the same record; null if there are none. */
function readXattrs(access: XattrAccess, options: AttributeOptions): Record<string, string> | null {
  let names: string[]
  try {
    names = access.list()
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
    const value = readXattr(access, raw, options)
    if (value === null) continue
    values[latin1ToPath(raw)] = value.toString('base64')
    count += 1
  }
  return count === 0 ? null : values
}

function readXattr(access: XattrAccess, raw: string, options: AttributeOptions): Buffer | null {
  try {
    return access.get(Buffer.from(raw, 'latin1'))
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
