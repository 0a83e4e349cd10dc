import koffi from 'koffi'

/**
 * The C functions behind libc.ts, which alone calls them: bare, without checks of what they are given.
 *
 * The symbols come from the C library that node itself runs on (load(null)), so glibc and musl need no names of their
 * own. mknodat and openat2 go through syscall(): the first has no symbol before glibc 2.33, the second none at all.
 * Variadic functions are declared with the arguments used, which both architectures pass alike for integers.
 */

type Address = Uint8Array | BigInt64Array | BigUint64Array | null

const libc = koffi.load(null)
export const native = {
  openat: libc.func('openat', 'int', ['int', 'void *', 'int', 'uint32_t']) as (
    directory: number,
    name: Address,
    flags: number,
    mode: number,
  ) => number,
  openat2: libc.func('syscall', 'long', ['long', 'int', 'void *', 'void *', 'size_t']) as (
    number: number,
    directory: number,
    name: Address,
    how: Address,
    size: number,
  ) => number,
  mknodat: libc.func('syscall', 'long', ['long', 'int', 'void *', 'uint32_t', 'uint32_t']) as (
    number: number,
    directory: number,
    name: Address,
    mode: number,
    device: number,
  ) => number,
  close: libc.func('close', 'int', ['int']) as (fd: number) => number,
  mkdirat: libc.func('mkdirat', 'int', ['int', 'void *', 'uint32_t']) as (
    d: number,
    n: Address,
    mode: number,
  ) => number,
  symlinkat: libc.func('symlinkat', 'int', ['void *', 'int', 'void *']) as (
    t: Address,
    d: number,
    n: Address,
  ) => number,
  linkat: libc.func('linkat', 'int', ['int', 'void *', 'int', 'void *', 'int']) as (
    fromDirectory: number,
    from: Address,
    toDirectory: number,
    to: Address,
    flags: number,
  ) => number,
  unlinkat: libc.func('unlinkat', 'int', ['int', 'void *', 'int']) as (d: number, n: Address, flags: number) => number,
  fchownat: libc.func('fchownat', 'int', ['int', 'void *', 'uint32_t', 'uint32_t', 'int']) as (
    directory: number,
    name: Address,
    uid: number,
    gid: number,
    flags: number,
  ) => number,
  fchown: libc.func('fchown', 'int', ['int', 'uint32_t', 'uint32_t']) as (f: number, u: number, g: number) => number,
  fchmod: libc.func('fchmod', 'int', ['int', 'uint32_t']) as (fd: number, mode: number) => number,
  utimensat: libc.func('utimensat', 'int', ['int', 'void *', 'void *', 'int']) as (
    directory: number,
    name: Address,
    times: Address,
    flags: number,
  ) => number,
  futimens: libc.func('futimens', 'int', ['int', 'void *']) as (fd: number, times: Address) => number,
  lseek: libc.func('lseek', 'int64_t', ['int', 'int64_t', 'int']) as (
    fd: number,
    at: number,
    whence: number,
  ) => number | bigint,
  syncfs: libc.func('syncfs', 'int', ['int']) as (fd: number) => number,
  flock: libc.func('flock', 'int', ['int', 'int']) as (fd: number, operation: number) => number,
  fallocate: libc.func('fallocate', 'int', ['int', 'int', 'int64_t', 'int64_t']) as (
    fd: number,
    mode: number,
    offset: number,
    length: number,
  ) => number,
  posixFadvise: libc.func('posix_fadvise', 'int', ['int', 'int64_t', 'int64_t', 'int']) as (
    fd: number,
    offset: number,
    length: number,
    advice: number,
  ) => number,
  llistxattr: libc.func('llistxattr', 'int64_t', ['void *', 'void *', 'size_t']) as (
    path: Address,
    list: Address,
    size: number,
  ) => number,
  lgetxattr: libc.func('lgetxattr', 'int64_t', ['void *', 'void *', 'void *', 'size_t']) as (
    path: Address,
    name: Address,
    value: Address,
    size: number,
  ) => number,
  flistxattr: libc.func('flistxattr', 'int64_t', ['int', 'void *', 'size_t']) as (
    fd: number,
    list: Address,
    size: number,
  ) => number,
  fgetxattr: libc.func('fgetxattr', 'int64_t', ['int', 'void *', 'void *', 'size_t']) as (
    fd: number,
    name: Address,
    value: Address,
    size: number,
  ) => number,
  lsetxattr: libc.func('lsetxattr', 'int', ['void *', 'void *', 'void *', 'size_t', 'int']) as (
    path: Address,
    name: Address,
    value: Address,
    size: number,
    flags: number,
  ) => number,
  lremovexattr: libc.func('lremovexattr', 'int', ['void *', 'void *']) as (path: Address, name: Address) => number,
  fsetxattr: libc.func('fsetxattr', 'int', ['int', 'void *', 'void *', 'size_t', 'int']) as (
    fd: number,
    name: Address,
    value: Address,
    size: number,
    flags: number,
  ) => number,
}

/** Of the last call in this thread. */
export function lastErrno(): number {
  return koffi.errno()
}
