import { createCipheriv, createHash } from 'node:crypto'
import * as fs from 'node:fs'
import {
  AT_FDCWD,
  close,
  errorCode,
  mkdirAt,
  mknodAt,
  O_DIRECTORY,
  O_PATH,
  openAt,
  setModifiedAt,
  setXattr,
} from '../../src/filesystem/libc.ts'
import { bytesToPath, pathToBytes } from '../../src/filesystem/names.ts'

export { describeTree, diffTrees, removeTree } from './describe-tree.ts'

const KIB = 1024
const MIB = 1024 * KIB
const BLOCK = 64 * KIB

export interface OdditiesOptions {
  /** Files in the crowded folder. Default 5,000. */
  many?: number
  /** Folders nested beyond PATH_MAX too. `removeTree` removes them; fs.rm cannot. */
  deep?: boolean
  /** Files of this many mebibytes too, beyond any buffer. */
  largeMebibytes?: number
}

/**
 * Builds a folder of everything a file system can hold, always the same. Returns what could not be made here, each with
 * its reason: as an ordinary user devices, owners and capabilities, and whatever this file system does not know.
 */
export async function makeOddities(directory: string, options: OdditiesOptions = {}): Promise<string[]> {
  const isRoot = process.geteuid?.() === 0
  const builder = new Builder(directory)
  fs.mkdirSync(directory, { recursive: true })
  makeSizes(builder, options.largeMebibytes ?? 0)
  makeNames(builder)
  makeModes(builder)
  makeTimes(builder)
  makeSparse(builder)
  makeLinks(builder)
  makeSpecials(builder)
  makeAttributes(builder)
  if (isRoot) makeRootOnly(builder)
  else builder.notes.push('owners, devices, capabilities, trusted attributes: only root can make them')
  makeFolders(builder, options.many ?? 5000)
  if (options.deep === true) makeDeep(builder)
  builder.settleFolders()
  return builder.notes
}

class Builder {
  readonly notes: string[] = []
  readonly #directory: string
  readonly #folders: string[] = ['']

  constructor(directory: string) {
    this.#directory = directory
  }

  path(name: string): Buffer {
    return Buffer.concat([Buffer.from(this.#directory), Buffer.from('/'), pathToBytes(name)])
  }

  folder(name: string, mode = 0o755): void {
    fs.mkdirSync(this.path(name))
    fs.chmodSync(this.path(name), mode)
    this.#folders.push(name)
  }

  file(name: string, content: string | Buffer = name, mode = 0o644): void {
    fs.writeFileSync(this.path(name), content)
    fs.chmodSync(this.path(name), mode)
    this.time(name, 1_600_000_000_123_456_789n)
  }

  time(name: string, ns: bigint): void {
    setModifiedAt(AT_FDCWD, this.path(name), ns)
  }

  /** For what this file system may not know. */
  attempt(what: string, act: () => void): void {
    try {
      act()
    } catch (error) {
      if (!['EPERM', 'ENOTSUP', 'EINVAL', 'EILSEQ'].includes(errorCode(error))) throw error
      this.notes.push(`${what}: ${errorCode(error)}`)
    }
  }

  /** Making names in a folder changes its time, so folders get theirs last, the deepest first. */
  settleFolders(): void {
    for (const [index, name] of this.#folders.entries().toArray().reverse()) {
      setModifiedAt(
        AT_FDCWD,
        name === '' ? this.#directory : this.path(name),
        1_500_000_000_000_000_001n + BigInt(index),
      )
    }
  }
}

/** Bytes that do not compress, the same for the same seed. */
export function noise(size: number, seed: number): Buffer {
  const key = createHash('sha256').update(`noise ${seed}`).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

function makeSizes(builder: Builder, largeMebibytes: number): void {
  builder.folder('sizes')
  const limits = [0, 1, 4095, 4096, 4097, 128 * KIB, 256 * KIB, MIB, 4 * MIB]
  const sizes = new Set(limits.flatMap((size) => (size < 128 * KIB ? [size] : [size - 1, size, size + 1])))
  for (const size of sizes) builder.file(`sizes/noise-${size}`, noise(size, size))
  builder.file('sizes/zeros', Buffer.alloc(3 * MIB))
  builder.file('sizes/repeated', Buffer.alloc(5 * MIB, 'the same again '))
  builder.file('sizes/twice', Buffer.concat([noise(2 * MIB, 1), noise(2 * MIB, 1)]))
  if (largeMebibytes > 0) builder.file('sizes/large', noise(largeMebibytes * MIB, 2))
}

function makeNames(builder: Builder): void {
  builder.folder('names')
  const names = [
    ' leading and trailing ',
    '-rf',
    '--help',
    '.hidden',
    '...',
    'new\nline',
    'tab\tand\rreturn',
    'bell\x07escape\x1b[31mred',
    'delete\x7f',
    'quote\'s "double" `back`',
    'back\\slash',
    '$(reboot); rm *',
    '*',
    '?[a-z]{x,y}',
    '#comment',
    '!bang',
    'emoji 😀👩‍👩‍👧',
    '\u00e9',
    'e\u0301',
    'ｆｕｌｌ',
    'rtl \u202e txt',
    'bom \ufeff',
    'private \uf8ff and \uffff',
    '\u{10ffff}',
    'A',
    'a',
    'a-b',
    'a.b',
    'a b',
    'x'.repeat(255),
    `${'€'.repeat(85)}`,
  ]
  for (const name of names) builder.file(`names/${name}`, `content of ${name}`)
  const bytes = [
    'ff',
    '80',
    'c0af',
    'eda080',
    'e282',
    'f09f98',
    'c3',
    '61ff62',
    'fe0a',
    'f4908080',
    `${'ff'.repeat(255)}`,
  ]
  for (const hex of bytes) {
    const name = bytesToPath(Buffer.from(hex, 'hex'))
    builder.attempt(`the name 0x${hex}`, () => builder.file(`names/${name}`, hex))
  }
  // A folder's content must sort right after it, before siblings whose names go on with a smaller character than `/`.
  builder.folder('names/order')
  for (const name of ['d', 'd-e', 'd.e', 'd e', 'd0', 'd\udcff', 'd\n']) {
    builder.folder(`names/order/${name}`)
    builder.file(`names/order/${name}/f`)
  }
}

function makeModes(builder: Builder): void {
  builder.folder('modes')
  for (const mode of [0o400, 0o444, 0o600, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o6755, 0o7777]) {
    builder.file(`modes/file-${mode.toString(8)}`, 'x', mode)
  }
  for (const mode of [0o700, 0o1777, 0o2775, 0o3777, 0o555]) builder.folder(`modes/folder-${mode.toString(8)}`, mode)
  builder.file('modes/unreadable', 'root reads this all the same', 0)
}

function makeTimes(builder: Builder): void {
  builder.folder('times')
  const times = [0n, 1n, -1n, -999_999_999n, -1_000_000_000n, -1_000_000_001n, 999_999_999n, 4_102_444_800_999_999_999n]
  for (const time of [...times, -1_900_000_000_500_000_000n, 1_700_000_000_000_000_000n]) {
    builder.file(`times/${time}`)
    builder.time(`times/${time}`, time)
  }
}

function makeSparse(builder: Builder): void {
  builder.folder('sparse')
  const layouts: Record<string, { data: number[]; size: number }> = {
    'hole-start': { data: [5], size: 6 * BLOCK },
    'hole-middle': { data: [0, 5], size: 6 * BLOCK },
    'hole-end': { data: [0], size: 6 * BLOCK },
    'hole-everywhere': { data: [2, 4, 7, 100], size: 200 * BLOCK + 17 },
    'all-hole': { data: [], size: 64 * MIB + 1 },
    'far-data': { data: [64 * 1024], size: 64 * 1024 * BLOCK + BLOCK },
    'data-of-zeros': { data: [-3], size: 6 * BLOCK },
  }
  for (const [name, { data, size }] of Object.entries(layouts)) {
    builder.file(`sparse/${name}`, '')
    const fd = fs.openSync(builder.path(`sparse/${name}`), 'r+')
    for (const block of data) {
      const bytes = block < 0 ? Buffer.alloc(BLOCK) : noise(BLOCK, block)
      fs.writeSync(fd, bytes, 0, BLOCK, Math.abs(block) * BLOCK)
    }
    fs.ftruncateSync(fd, size)
    fs.closeSync(fd)
    builder.time(`sparse/${name}`, 1_650_000_000_000_000_003n)
  }
}

function makeLinks(builder: Builder): void {
  builder.folder('links')
  builder.folder('links/folder')
  builder.file('links/a first name', 'one inode, three names')
  fs.linkSync(builder.path('links/a first name'), builder.path('links/folder/second name'))
  fs.linkSync(builder.path('links/a first name'), builder.path('links/z third name'))
  builder.file('links/empty first', '')
  fs.linkSync(builder.path('links/empty first'), builder.path('links/empty second'))
  const targets: Record<string, string> = {
    'to-file': 'a first name',
    'to-folder': 'folder',
    dangling: 'nothing/here',
    absolute: '/etc/hostname',
    'to-itself': 'to-itself',
    up: '../..',
    long: `${'x/'.repeat(2000)}y`,
    'not-utf8': '\udcff\udcfe\n',
  }
  for (const [name, target] of Object.entries(targets)) {
    fs.symlinkSync(pathToBytes(target), builder.path(`links/${name}`))
    builder.time(`links/${name}`, 1_234_567_890_987_654_321n)
  }
  builder.attempt('a hard link to a symbolic link', () =>
    fs.linkSync(builder.path('links/dangling'), builder.path('links/dangling again')),
  )
}

function makeSpecials(builder: Builder): void {
  builder.folder('special')
  for (const [name, type] of [
    ['fifo', 0o010000],
    ['socket', 0o140000],
  ] as const) {
    builder.attempt(name, () => {
      mknodAt(AT_FDCWD, builder.path(`special/${name}`), type | 0o600)
      fs.chmodSync(builder.path(`special/${name}`), 0o640)
      builder.time(`special/${name}`, 1_400_000_000_000_000_007n)
    })
  }
  builder.attempt('a hard link to a FIFO', () =>
    fs.linkSync(builder.path('special/fifo'), builder.path('special/fifo again')),
  )
}

/** Version 2 of linux/posix_acl_xattr.h: tag, permissions and id, little-endian. */
export function posixAcl(entries: [tag: number, permissions: number, id: number][]): Buffer {
  const bytes = Buffer.alloc(4 + entries.length * 8)
  bytes.writeUInt32LE(2, 0)
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + i * 8)
    bytes.writeUInt16LE(permissions, 6 + i * 8)
    bytes.writeUInt32LE(id, 8 + i * 8)
  }
  return bytes
}

const NO_ID = 0xffffffff
const OTHERS_ACL: [number, number, number][] = [
  [0x02, 7, 1234],
  [0x02, 4, 4321],
  [0x04, 0, NO_ID],
  [0x08, 5, 5678],
  [0x10, 5, NO_ID],
  [0x20, 0, NO_ID],
]
const FILE_ACL = posixAcl([[0x01, 6, NO_ID], ...OTHERS_ACL])
const FOLDER_ACL = posixAcl([[0x01, 7, NO_ID], ...OTHERS_ACL])

function makeAttributes(builder: Builder): void {
  builder.folder('attributes')
  builder.file('attributes/file')
  const set = (name: string, attribute: string | Buffer, value: Buffer): void =>
    builder.attempt(`${attribute} on ${name}`, () => setXattr(builder.path(name), attribute, value))
  set('attributes/file', 'user.text', Buffer.from('value'))
  set('attributes/file', 'user.empty', Buffer.alloc(0))
  set('attributes/file', 'user.binary', Buffer.from([0, 255, 10, 0]))
  set('attributes/file', Buffer.from('user.\xff\xfe', 'latin1'), Buffer.from('x'))
  builder.file('attributes/long')
  set('attributes/long', 'user.long', noise(3000, 3))
  set('attributes', 'user.on-folder', Buffer.from('yes'))
  builder.file('attributes/acl', 'acl', 0o750)
  set('attributes/acl', 'system.posix_acl_access', FILE_ACL)
  builder.file('attributes/acl-setgid', 'acl', 0o2750)
  set('attributes/acl-setgid', 'system.posix_acl_access', FILE_ACL)
  builder.folder('attributes/acl-default', 0o2770)
  set('attributes/acl-default', 'system.posix_acl_access', FOLDER_ACL)
  set('attributes/acl-default', 'system.posix_acl_default', FOLDER_ACL)
  builder.file('attributes/acl-default/inherits', 'x')
  for (const name of ['file', 'long', 'acl', 'acl-setgid'])
    builder.time(`attributes/${name}`, 1_300_000_000_000_000_009n)
}

function makeRootOnly(builder: Builder): void {
  builder.folder('root')
  const owners: [number, number][] = [
    [1234, 5678],
    [0, 5678],
    [65534, 0],
    [3_000_000_000, 4_000_000_000],
  ]
  for (const [uid, gid] of owners) {
    builder.file(`root/owned-${uid}-${gid}`)
    fs.chownSync(builder.path(`root/owned-${uid}-${gid}`), uid, gid)
  }
  builder.file('root/setuid-of-other')
  fs.chownSync(builder.path('root/setuid-of-other'), 1234, 5678)
  fs.chmodSync(builder.path('root/setuid-of-other'), 0o6755)
  fs.symlinkSync('x', builder.path('root/link-of-other'))
  fs.lchownSync(builder.path('root/link-of-other'), 1234, 5678)
  builder.time('root/link-of-other', 1n)
  builder.folder('root/folder-of-other', 0o2750)
  fs.chownSync(builder.path('root/folder-of-other'), 1234, 5678)
  fs.chmodSync(builder.path('root/folder-of-other'), 0o2750)
  builder.folder('root/locked', 0)
  for (const [name, type, major, minor] of [
    ['null', 0o020000, 1, 3],
    ['large-numbers', 0o020000, 0xabc, 0xabcde],
    ['disk', 0o060000, 7, 200],
  ] as const) {
    builder.attempt(`device ${name}`, () => {
      mknodAt(AT_FDCWD, builder.path(`root/${name}`), type | 0o600, major, minor)
      builder.time(`root/${name}`, 1_200_000_000_000_000_000n)
    })
  }
  builder.file('root/capable', 'x', 0o755)
  // vfs_cap_data of linux/capability.h, version 2: cap_net_raw permitted and effective.
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')
  builder.attempt('a capability', () => setXattr(builder.path('root/capable'), 'security.capability', capability))
  builder.attempt('a trusted attribute', () => setXattr(builder.path('root/capable'), 'trusted.x', Buffer.from('1')))
  builder.attempt('a trusted attribute of a link', () =>
    setXattr(builder.path('root/link-of-other'), 'trusted.on-link', Buffer.from('2')),
  )
}

function makeFolders(builder: Builder, many: number): void {
  builder.folder('empty folder')
  builder.folder('many')
  for (let i = 0; i < many; i++) fs.writeFileSync(builder.path(`many/${i}`), `${i}`)
  for (let i = 0; i < many; i++) builder.time(`many/${i}`, BigInt(i) * 1_000_000_007n)
  let path = 'nested'
  for (let depth = 0; depth < 60; depth++, path += '/deeper') builder.folder(path)
  builder.file(`${path}`, 'at the bottom')
}

/** Deeper than a path can say: made, read and removed by way of directory handles. */
function makeDeep(builder: Builder): void {
  builder.folder('deep')
  const name = 'd'.repeat(250)
  let at = openAt(AT_FDCWD, builder.path('deep'), O_PATH | O_DIRECTORY)
  const handles = [at]
  for (let depth = 0; depth < 25; depth++) {
    mkdirAt(at, name, 0o755)
    at = openAt(at, name, O_PATH | O_DIRECTORY)
    handles.push(at)
  }
  fs.writeFileSync(`/proc/self/fd/${at}/leaf`, 'below PATH_MAX')
  setModifiedAt(at, 'leaf', 77n)
  for (let depth = 24; depth >= 0; depth--) setModifiedAt(handles[depth] as number, name, BigInt(depth))
  for (const handle of handles) close(handle)
}
