import { constants } from 'node:fs'
import { constants as osConstants } from 'node:os'
import { lastErrno, native } from './libc-functions.ts'
import { bytesToPath, displayPath, pathToBytes } from './names.ts'
import { errorCode, SystemError } from './system-error.ts'

/**
 * The system calls that node:fs lacks: those relative to a directory handle, extended attributes, nanosecond times,
 * holes. Linux on x86-64 and arm64, glibc and musl. Everything is synchronous and may be used in worker threads (each
 * has its own scratch buffers); a failure throws a SystemError with node's `code`.
 */

export { errorCode, SystemError }

// Node's constants carry those O_ flags that differ between architectures; the rest have one value on both.
export const O_RDONLY = constants.O_RDONLY
export const O_WRONLY = constants.O_WRONLY
export const O_CREAT = constants.O_CREAT
export const O_EXCL = constants.O_EXCL
export const O_NONBLOCK = constants.O_NONBLOCK
export const O_DIRECTORY = constants.O_DIRECTORY
export const O_NOFOLLOW = constants.O_NOFOLLOW
export const O_NOATIME = constants.O_NOATIME
export const O_CLOEXEC = 0o2000000
export const O_PATH = 0o10000000

export const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_REMOVEDIR = 0x200

const RESOLVE_NO_MAGICLINKS = 0x02n
const RESOLVE_NO_SYMLINKS = 0x04n
const RESOLVE_BENEATH = 0x08n

const SEEK_DATA = 3
const SEEK_HOLE = 4

const UTIME_OMIT = 0x3ffffffen

const LOCK_EX = 2
const LOCK_NB = 4

const SYS_OPENAT2 = 437
const SYS_MKNODAT = process.arch === 'arm64' ? 33 : 259

/** A path or name for a call: a string in the convention of EntryPath, or its bytes. */
export type Name = string | Uint8Array

// PATH_MAX is 4096 with its NUL; what does not fit is refused here the way the kernel would refuse it.
const SCRATCH_BYTES = 4096
const scratch = [Buffer.alloc(SCRATCH_BYTES), Buffer.alloc(SCRATCH_BYTES), Buffer.alloc(SCRATCH_BYTES)] as const

/** NUL-terminated in one of three buffers that live as long as the thread: no allocation per call. */
function cString(slot: 0 | 1 | 2, name: Name, syscall: string): Buffer {
  const buffer = scratch[slot]
  const bytes =
    typeof name !== 'string' ? name : name.length * 3 < SCRATCH_BYTES && name.isWellFormed() ? null : pathToBytes(name)
  if (bytes !== null && bytes.length >= SCRATCH_BYTES) {
    throw new SystemError(osConstants.errno.ENAMETOOLONG, syscall, subjectOf(name))
  }
  if (typeof name === 'string' ? name.includes('\0') : name.includes(0)) {
    // Cut at the NUL the call would reach another file than the one named.
    throw new SystemError(osConstants.errno.EINVAL, syscall, subjectOf(name))
  }
  let length: number
  if (bytes === null) {
    length = buffer.write(name as string, 0, 'utf8')
  } else {
    buffer.set(bytes)
    length = bytes.length
  }
  buffer[length] = 0
  return buffer
}

function subjectOf(name: Name): string {
  const shown = displayPath(typeof name === 'string' ? name : bytesToPath(name))
  return shown.length <= 1000 ? shown : `${shown.slice(0, 500)}…${shown.slice(-500)}`
}

function fail(syscall: string, name: Name): never {
  throw new SystemError(lastErrno(), syscall, subjectOf(name))
}

/** Close what this module opened with `close` of this module: node's own warns in a worker about handles it did not open. */
export function openAt(directory: number, name: Name, flags: number, mode = 0): number {
  const fd = native.openat(directory, cString(0, name, 'openat'), flags | O_CLOEXEC, mode)
  return fd >= 0 ? fd : fail('openat', name)
}

const openHow = new BigUint64Array(3)

/** Opens a path strictly beneath `directory`, no symbolic link on the way or at its end. ENOSYS before Linux 5.6. */
export function openBeneath(directory: number, path: Name, flags: number, mode = 0): number {
  openHow[0] = BigInt(flags | O_CLOEXEC)
  openHow[1] = BigInt(mode)
  openHow[2] = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
  const fd = native.openat2(SYS_OPENAT2, directory, cString(0, path, 'openat2'), openHow, 24)
  return fd >= 0 ? fd : fail('openat2', path)
}

export function close(fd: number): void {
  // After EINTR Linux has closed it all the same; a second try could hit another thread's handle.
  if (native.close(fd) !== 0 && lastErrno() !== osConstants.errno.EINTR) fail('close', String(fd))
}

export function mkdirAt(directory: number, name: Name, mode: number): void {
  if (native.mkdirat(directory, cString(0, name, 'mkdirat'), mode) !== 0) fail('mkdirat', name)
}

/** `mode` holds the type too (S_IF*). Device numbers in the kernel's 32-bit encoding: 12 bits major, 20 bits minor. */
export function mknodAt(directory: number, name: Name, mode: number, major = 0, minor = 0): void {
  if (major < 0 || major > 0xfff || minor < 0 || minor > 0xfffff) {
    throw new SystemError(osConstants.errno.EINVAL, 'mknodat', subjectOf(name))
  }
  const device = ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0
  if (native.mknodat(SYS_MKNODAT, directory, cString(0, name, 'mknodat'), mode, device) !== 0) fail('mknodat', name)
}

export function symlinkAt(target: Name, directory: number, name: Name): void {
  if (native.symlinkat(cString(1, target, 'symlinkat'), directory, cString(0, name, 'symlinkat')) !== 0)
    fail('symlinkat', name)
}

/** Makes a second name for an inode; a symbolic link itself, not what it points at. */
export function linkAt(fromDirectory: number, from: Name, toDirectory: number, to: Name): void {
  const result = native.linkat(fromDirectory, cString(1, from, 'linkat'), toDirectory, cString(0, to, 'linkat'), 0)
  if (result !== 0) fail('linkat', to)
}

export function unlinkAt(directory: number, name: Name, options: { directory: boolean }): void {
  const flags = options.directory ? AT_REMOVEDIR : 0
  if (native.unlinkat(directory, cString(0, name, 'unlinkat'), flags) !== 0) fail('unlinkat', name)
}

/** Never follows a symbolic link at the end. */
export function chownAt(directory: number, name: Name, uid: number, gid: number): void {
  refuseKeepOwner(uid, gid, 'fchownat')
  const result = native.fchownat(directory, cString(0, name, 'fchownat'), uid, gid, AT_SYMLINK_NOFOLLOW)
  if (result !== 0) fail('fchownat', name)
}

export function chownHandle(fd: number, uid: number, gid: number): void {
  refuseKeepOwner(uid, gid, 'fchown')
  if (native.fchown(fd, uid, gid) !== 0) fail('fchown', '')
}

/** To the system, -1 means "leave it": taken from a listing it would silently keep the wrong owner. */
function refuseKeepOwner(uid: number, gid: number, syscall: string): void {
  const isId = (id: number): boolean => Number.isInteger(id) && id >= 0 && id < 0xffffffff
  if (!isId(uid) || !isId(gid)) throw new SystemError(osConstants.errno.EINVAL, syscall, `${uid}:${gid}`)
}

export function chmodHandle(fd: number, mode: number): void {
  if (native.fchmod(fd, mode) !== 0) fail('fchmod', '')
}

// struct timespec[2] on 64-bit Linux: access time (seconds, nanoseconds), modification time (seconds, nanoseconds).
const timespecs = new BigInt64Array(4)

function fillTimes(mtimeNs: bigint): BigInt64Array {
  let seconds = mtimeNs / 1_000_000_000n
  let nanoseconds = mtimeNs % 1_000_000_000n
  // Before 1970 the seconds round down and the nanoseconds still count up.
  if (nanoseconds < 0n) {
    seconds -= 1n
    nanoseconds += 1_000_000_000n
  }
  timespecs[0] = 0n
  timespecs[1] = UTIME_OMIT
  timespecs[2] = seconds
  timespecs[3] = nanoseconds
  return timespecs
}

/** Nanoseconds since the epoch, may be negative. Leaves the access time alone; never follows a link at the end. */
export function setModifiedAt(directory: number, name: Name, mtimeNs: bigint): void {
  const result = native.utimensat(directory, cString(0, name, 'utimensat'), fillTimes(mtimeNs), AT_SYMLINK_NOFOLLOW)
  if (result !== 0) fail('utimensat', name)
}

export function setModifiedHandle(fd: number, mtimeNs: bigint): void {
  if (native.futimens(fd, fillTimes(mtimeNs)) !== 0) fail('futimens', '')
}

/** Offset of the first data at or after `offset`; null if there is none up to the end of the file. */
export function seekData(fd: number, offset: number): number | null {
  return seek(fd, offset, SEEK_DATA)
}

/** Offset of the first hole at or after `offset` (the end of the file counts as one); null if `offset` is past the end. */
export function seekHole(fd: number, offset: number): number | null {
  return seek(fd, offset, SEEK_HOLE)
}

function seek(fd: number, offset: number, whence: number): number | null {
  const result = Number(native.lseek(fd, offset, whence))
  if (result >= 0) return result
  if (lastErrno() === osConstants.errno.ENXIO) return null
  return fail('lseek', '')
}

/** Makes everything written to the file system of this handle durable. Not for O_PATH handles. */
export function syncFilesystemOf(fd: number): void {
  if (native.syncfs(fd) !== 0) fail('syncfs', '')
}

/**
 * Takes the file's lock for this handle, if no other handle has it; false if one has. It ends with the handle, and so with
 * the process. Throws where the file system has no locks.
 */
export function tryLockFile(fd: number): boolean {
  if (native.flock(fd, LOCK_EX | LOCK_NB) === 0) return true
  if (lastErrno() === osConstants.errno.EWOULDBLOCK) return false
  return fail('flock', '')
}

/** Reserves disk space for [offset, offset + length) and grows the file to hold it. ENOTSUP where the file system cannot. */
export function allocate(fd: number, offset: number, length: number): void {
  if (native.fallocate(fd, 0, offset, length) !== 0) fail('fallocate', '')
}

export const ADVICE = { normal: 0, random: 1, sequential: 2, willNeed: 3, dontNeed: 4 } as const

/** A hint to the page cache for [offset, offset + length), 0 meaning to the end. A refusal changes nothing: not reported. */
export function advise(fd: number, offset: number, length: number, advice: keyof typeof ADVICE): void {
  native.posixFadvise(fd, offset, length, ADVICE[advice])
}

// XATTR_LIST_MAX and XATTR_SIZE_MAX are both 64 KiB (linux/limits.h), so these hold any answer.
const listBuffer = Buffer.alloc(65536)
const valueBuffer = Buffer.alloc(65536)

/** Names of a file's extended attributes as raw bytes in latin1, in the kernel's order; none where there is no support. */
export function listXattrs(path: Name): string[] {
  const length = Number(native.llistxattr(cString(0, path, 'llistxattr'), listBuffer, listBuffer.length))
  return namesListed(length, 'llistxattr', path)
}

/** The same of an open file. */
export function listXattrsHandle(fd: number): string[] {
  return namesListed(Number(native.flistxattr(fd, listBuffer, listBuffer.length)), 'flistxattr', '')
}

function namesListed(length: number, syscall: string, path: Name): string[] {
  if (length > 0) return listBuffer.toString('latin1', 0, length - 1).split('\0')
  if (length < 0 && lastErrno() !== osConstants.errno.ENOTSUP) fail(syscall, path)
  return NO_NAMES
}

const NO_NAMES: string[] = []

/** A copy of the value; null if there is no such attribute (any more). `name` in bytes or as text. */
export function getXattr(path: Name, name: Name): Buffer | null {
  const length = Number(
    native.lgetxattr(cString(0, path, 'lgetxattr'), cString(1, name, 'lgetxattr'), valueBuffer, valueBuffer.length),
  )
  return valueGot(length, 'lgetxattr', path)
}

/** The same of an open file. */
export function getXattrHandle(fd: number, name: Name): Buffer | null {
  const length = Number(native.fgetxattr(fd, cString(1, name, 'fgetxattr'), valueBuffer, valueBuffer.length))
  return valueGot(length, 'fgetxattr', '')
}

function valueGot(length: number, syscall: string, path: Name): Buffer | null {
  if (length >= 0) return Buffer.from(valueBuffer.subarray(0, length))
  if (lastErrno() === osConstants.errno.ENODATA) return null
  return fail(syscall, path)
}

/** Creates or replaces; never follows a symbolic link at the end of `path`. */
export function setXattr(path: Name, name: Name, value: Uint8Array): void {
  const result = native.lsetxattr(cString(0, path, 'lsetxattr'), cString(1, name, 'lsetxattr'), value, value.length, 0)
  if (result !== 0) fail('lsetxattr', path)
}

/** Absent is fine; never follows a symbolic link at the end of `path`. */
export function removeXattr(path: Name, name: Name): void {
  const result = native.lremovexattr(cString(0, path, 'lremovexattr'), cString(1, name, 'lremovexattr'))
  if (result !== 0 && lastErrno() !== osConstants.errno.ENODATA) fail('lremovexattr', path)
}

export function setXattrHandle(fd: number, name: Name, value: Uint8Array): void {
  if (native.fsetxattr(fd, cString(1, name, 'fsetxattr'), value, value.length, 0) !== 0) fail('fsetxattr', '')
}
