import { createHash } from 'node:crypto'
import { chmod, chown, link, lutimes, mkdir, open, symlink, writeFile } from 'node:fs/promises'
import { AT_FDCWD, errorCode, mknodAt, setModifiedAt, setXattr } from '../filesystem/libc.ts'

/** What a folder was given that not every file system or user can give. */
export interface FolderSummary {
  files: number
  bytes: number
  /** Kinds of attributes that this place does not offer, in words; empty where all were made. */
  leftOut: string[]
}

const SMALL_FILES = 240
const S_IFIFO = 0o010000
/** 2001-09-09T01:46:40.123456789Z: nanoseconds that a double cannot hold. */
const OLD_NS = 1_000_000_000_123_456_789n

/** Names that break careless programs. Bytes, because not all of them are text. */
const ODD_NAMES = [
  'plain.txt',
  ' leading and trailing space ',
  'two  spaces',
  'quote\'s and "double"',
  '-rf',
  '--help',
  '$(touch oops) `id` ${HOME}',
  '*?[a]',
  'back\\slash',
  'new\nline',
  'tab\tand\u001b[31m colour',
  'ünïcödé',
  'u\u0308 decomposed',
  '日本語のファイル',
  '🦔',
  '\u202etxt.exe',
  '.hidden',
  '...',
  'CON',
  'x'.repeat(255),
].map((name) => Buffer.from(name))

/** Makes `folder` (absent before) and fills it with a few hundred files of every kind. The same each time. */
export async function makeFolder(folder: string, isRoot: boolean): Promise<FolderSummary> {
  const summary: FolderSummary = { files: 0, bytes: 0, leftOut: [] }
  const file = async (path: string | Buffer, content: Buffer, mode = 0o644) => {
    await writeFile(path, content, { mode, flag: 'wx' })
    await chmod(path, mode)
    summary.files++
    summary.bytes += content.length
  }
  await mkdir(folder, { mode: 0o755 })
  for (const name of ['invoices', 'invoices/2025', 'invoices/2026', 'odd names', 'empty', 'private', 'special']) {
    await mkdir(`${folder}/${name}`)
  }

  for (let i = 0; i < SMALL_FILES; i++) {
    const content = i % 5 === 0 ? Buffer.alloc(0) : i % 2 === 0 ? words(i, 40 * i) : noise(i, 300 * i)
    await file(`${folder}/invoices/${i % 2 === 0 ? 2025 : 2026}/invoice ${String(i).padStart(4, '0')}.pdf`, content)
  }
  for (const [i, name] of [...ODD_NAMES, Buffer.from([0x66, 0xff, 0xfe, 0x6f])].entries()) {
    await file(Buffer.concat([Buffer.from(`${folder}/odd names/`), name]), words(i, 100 + i))
  }
  await file(`${folder}/catalogue.bin`, noise(7, 8 * 1024 * 1024))
  await file(`${folder}/private/key.pem`, words(1, 3000), 0o400)
  await file(`${folder}/special/run`, Buffer.from('#!/bin/sh\nexit 0\n'), 0o4755)
  await makeSparse(`${folder}/special/disk.img`)
  summary.files++

  await link(`${folder}/catalogue.bin`, `${folder}/special/hard link`)
  await symlink('../invoices/2025', `${folder}/special/link`)
  await symlink('/nowhere/at all', `${folder}/special/dangling`)
  mknodAt(AT_FDCWD, `${folder}/special/pipe`, S_IFIFO | 0o640)
  summary.files += 4

  await attributes(folder, isRoot, summary)
  return summary
}

/** Last, because writing a file changes its time and its folder's. */
async function attributes(folder: string, isRoot: boolean, summary: FolderSummary): Promise<void> {
  const optional = (what: string, set: () => void) => {
    try {
      set()
    } catch (error) {
      if (errorCode(error) !== 'ENOTSUP' && errorCode(error) !== 'EPERM') throw error
      summary.leftOut.push(what)
    }
  }
  optional('extended attributes', () => {
    setXattr(`${folder}/catalogue.bin`, 'user.regain.origin', Buffer.from([0, 1, 2, 255]))
    setXattr(`${folder}/invoices`, 'user.comment', Buffer.from('paid within 14 days'))
  })
  optional('access control lists', () => setXattr(`${folder}/private`, 'system.posix_acl_access', ACL))
  if (isRoot) {
    await chown(`${folder}/invoices/2025`, 12_345, 54_321)
    await chown(`${folder}/catalogue.bin`, 1, 1)
  } else {
    summary.leftOut.push('other owners (only root can give files away)')
  }
  await chmod(`${folder}/private`, 0o750)
  await chmod(`${folder}/empty`, 0o1777)
  await lutimes(`${folder}/special/dangling`, 1_200_000_000, 1_200_000_000)
  setModifiedAt(AT_FDCWD, `${folder}/catalogue.bin`, OLD_NS)
  setModifiedAt(AT_FDCWD, `${folder}/special/run`, -1n)
  setModifiedAt(AT_FDCWD, `${folder}/empty`, OLD_NS)
}

/** A few files change between two backups, as they do. */
export async function changeFolder(folder: string): Promise<void> {
  await writeFile(`${folder}/invoices/2026/invoice 9999.pdf`, noise(9999, 40_000))
  await writeFile(`${folder}/invoices/2026/invoice 0001.pdf`, words(5, 5000))
  const catalogue = await open(`${folder}/catalogue.bin`, 'r+')
  try {
    await catalogue.write(words(6, 4096), 0, 4096, 3 * 1024 * 1024)
  } finally {
    await catalogue.close()
  }
}

/** 40 MiB, of which three places hold data. */
async function makeSparse(path: string): Promise<void> {
  const file = await open(path, 'wx')
  try {
    await file.truncate(40 * 1024 * 1024)
    await file.write(words(1, 5000), 0, 5000, 0)
    await file.write(noise(2, 100_000), 0, 100_000, 20 * 1024 * 1024)
    await file.write(words(3, 10), 0, 10, 36 * 1024 * 1024)
  } finally {
    await file.close()
  }
}

/**
 * user::rwx, user 12345: r-x, group::r-x, mask::r-x, other::--- as the kernel stores it (linux/posix_acl_xattr.h):
 * version 2, then tag, permissions and id of each entry, little endian.
 */
const ACL = aclBytes([
  [0x01, 7, 0xffffffff],
  [0x02, 5, 12_345],
  [0x04, 5, 0xffffffff],
  [0x10, 5, 0xffffffff],
  [0x20, 0, 0xffffffff],
])

function aclBytes(entries: [tag: number, permissions: number, id: number][]): Buffer {
  const bytes = Buffer.alloc(4 + 8 * entries.length)
  bytes.writeUInt32LE(2)
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + 8 * i)
    bytes.writeUInt16LE(permissions, 6 + 8 * i)
    bytes.writeUInt32LE(id, 8 + 8 * i)
  }
  return bytes
}

function words(seed: number, length: number): Buffer {
  return Buffer.alloc(length, `line ${seed} of a text that compresses well\n`)
}

function noise(seed: number, length: number): Buffer {
  return createHash('shake256', { outputLength: Math.max(1, length) })
    .update(String(seed))
    .digest()
    .subarray(0, length)
}
