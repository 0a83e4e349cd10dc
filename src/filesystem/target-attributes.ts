import { chmodSync, fstatSync } from 'node:fs'
import type { Entry } from '../model.ts'
import {
  chmodHandle,
  chownAt,
  chownHandle,
  close,
  errorCode,
  O_NOFOLLOW,
  O_PATH,
  openAt,
  setModifiedAt,
  setModifiedHandle,
  setXattr,
  setXattrHandle,
} from './libc.ts'
import { pathToBytes } from './names.ts'

export interface ApplyOptions {
  /** Give files to their owners; needs root. False: they stay with the user who runs the restore. */
  ownership: boolean
}

/**
 * The order matters: chown clears set-user-ID bits and file capabilities, so mode and attributes come after it; user.*
 * attributes need the right to write, which the mode may take from its owner, so they come before the mode; setting
 * an ACL rewrites the mode's group bits from the mask it holds, which are the very bits of the mode kept; all of them
 * leave the modification time alone but writing content does not, so the time is last.
 */
interface Setters {
  chown(uid: number, gid: number): void
  /** Null: this kind has no mode of its own (symbolic links). */
  chmod: ((mode: number) => void) | null
  setXattr(name: Buffer, value: Buffer): void
  setModified(ns: bigint): void
  /** Null: not looked at again (symbolic links). */
  readMode: (() => number) | null
}

/** For files and directories that are open. Not for O_PATH handles. */
export function applyToHandle(fd: number, entry: Entry, options: ApplyOptions): string[] {
  return apply(entry, options, {
    chown: (uid, gid) => chownHandle(fd, uid, gid),
    chmod: (mode) => chmodHandle(fd, mode),
    setXattr: (name, value) => setXattrHandle(fd, name, value),
    setModified: (ns) => setModifiedHandle(fd, ns),
    readMode: () => fstatSync(fd).mode & 0o7777,
  })
}

/**
 * For what must not be opened (devices, FIFOs) or cannot be (symbolic links, sockets). Mode and attributes have no call
 * that takes a directory handle and follows nothing on every kernel, so they go by way of /proc/self/fd, where a path
 * leads through the handle itself.
 */
export function applyToName(parent: number, name: string, entry: Entry, options: ApplyOptions): string[] {
  const viaParent = Buffer.concat([Buffer.from(`/proc/self/fd/${parent}/`), pathToBytes(name)])
  const isLink = entry.type === 'symlink'
  return apply(entry, options, {
    chown: (uid, gid) => chownAt(parent, name, uid, gid),
    chmod: isLink ? null : (mode) => withPathHandle(parent, name, (itself) => chmodSync(itself, mode)),
    setXattr: (attribute, value) => setXattr(viaParent, attribute, value),
    setModified: (ns) => setModifiedAt(parent, name, ns),
    readMode: null,
  })
}

/** The handle is of the thing itself, never of what a link points at; chmod through it cannot be redirected. */
function withPathHandle(parent: number, name: string, act: (itself: string) => void): void {
  const fd = openAt(parent, name, O_PATH | O_NOFOLLOW)
  try {
    if (fstatSync(fd).isSymbolicLink()) throw new Error('a symbolic link took its place')
    act(`/proc/self/fd/${fd}`)
  } finally {
    close(fd)
  }
}

function apply(entry: Entry, options: ApplyOptions, setters: Setters): string[] {
  const problems: string[] = []
  const attempt = (what: string, act: () => void): boolean => {
    try {
      act()
      return true
    } catch (error) {
      problems.push(`${what} (${errorCode(error) || (error instanceof Error ? error.message : String(error))})`)
      return false
    }
  }
  const owned =
    options.ownership &&
    attempt(`owner ${entry.uid}:${entry.gid} could not be set`, () => setters.chown(entry.uid, entry.gid))
  const mode = safeMode(entry, owned, problems)
  const { chmod, readMode } = setters
  const xattrs = Object.entries(entry.xattrs ?? {})
  const setXattrs = (chosen: [string, string][]) => {
    for (const [name, value] of chosen) {
      attempt(`extended attribute ${name} could not be set`, () =>
        setters.setXattr(pathToBytes(name), Buffer.from(value, 'base64')),
      )
    }
  }
  setXattrs(xattrs.filter(([name]) => name.startsWith('user.')))
  if (chmod !== null) attempt(`mode ${octal(mode)} could not be set`, () => chmod(mode))
  setXattrs(xattrs.filter(([name]) => !name.startsWith('user.')))
  // Linux drops set-group-ID silently when the user is not in the group, at chmod and again when an ACL is set.
  if (readMode !== null && (mode & 0o6000) !== 0) {
    attempt('mode could not be read back', () => {
      const now = readMode()
      if (now !== mode)
        problems.push(`mode is ${octal(now)} instead of ${octal(mode)}: the system took a special bit away`)
    })
  }
  attempt(`modification time ${entry.mtime} could not be set`, () => setters.setModified(BigInt(entry.mtime)))
  return problems
}

/**
 * A file that runs with its owner's rights must not do so for another owner: kept are set-user-ID and set-group-ID bits
 * only where the owner they were given for is in place.
 */
function safeMode(entry: Entry, owned: boolean, problems: string[]): number {
  let mode = entry.mode & 0o7777
  if (owned || (mode & 0o6000) === 0) return mode
  if ((mode & 0o4000) !== 0 && entry.uid !== process.geteuid?.()) mode &= ~0o4000
  // On a directory the bit only says which group new files get.
  if ((mode & 0o2000) !== 0 && entry.gid !== process.getegid?.() && entry.type !== 'directory') mode &= ~0o2000
  if (mode !== entry.mode) {
    problems.push(`mode is ${octal(mode)} instead of ${octal(entry.mode)}: it would have given another owner's rights`)
  }
  return mode
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, '0')
}
