import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { attributesOfFile, inspect, readAttributes } from './attributes.ts'
import { AT_FDCWD, errorCode, mknodAt, setModifiedAt, setXattr } from './libc.ts'
import { readOwnerNames } from './owners.ts'

const directory = fs.mkdtempSync(join(tmpdir(), 'regain-attributes-'))
after(() => fs.rmSync(directory, { recursive: true }))
const options = { owners: readOwnerNames() }

function file(name: string): string {
  const path = join(directory, name)
  fs.writeFileSync(path, 'content')
  return path
}

test('a file: mode, owner, size, nanosecond times, inode', () => {
  const path = file('plain')
  fs.chmodSync(path, 0o4751)
  setModifiedAt(AT_FDCWD, path, 1234567890123456789n)
  const entry = readAttributes(path, 'plain', options)
  const stat = fs.statSync(path, { bigint: true })
  assert.deepEqual(
    { ...entry, owner: undefined, group: undefined },
    {
      path: 'plain',
      type: 'file',
      mode: 0o4751,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
      mtime: '1234567890123456789',
      ctime: stat.ctimeNs.toString(),
      inode: stat.ino.toString(),
      device: stat.dev.toString(),
      size: 7,
      owner: undefined,
      group: undefined,
    },
  )
})

test('an open file says the same as its path', (t) => {
  const path = file('opened')
  try {
    setXattr(path, 'user.b', Buffer.from('2'))
    setXattr(path, 'user.a', Buffer.from([0, 255]))
  } catch (error) {
    t.diagnostic(`no extended attributes here: ${errorCode(error)}`)
  }
  const fd = fs.openSync(path, 'r')
  try {
    assert.deepEqual(
      { path: 'opened', type: 'file', ...attributesOfFile(fd, options) },
      readAttributes(path, 'opened', options),
    )
  } finally {
    fs.closeSync(fd)
  }
})

test('a time before 1970 keeps its nanoseconds', () => {
  const path = file('old')
  for (const ns of [-1n, -999_999_999n, -1_000_000_000n, -1_000_000_001n, -86_400_000_000_001n]) {
    setModifiedAt(AT_FDCWD, path, ns)
    assert.equal(readAttributes(path, 'old', options).mtime, ns.toString())
  }
})

test('every type is named', () => {
  fs.mkdirSync(join(directory, 'dir'))
  fs.symlinkSync('plain', join(directory, 'link'))
  mknodAt(AT_FDCWD, join(directory, 'fifo'), 0o010600)
  mknodAt(AT_FDCWD, join(directory, 'socket'), 0o140600)
  for (const [name, type] of [
    ['dir', 'directory'],
    ['link', 'symlink'],
    ['fifo', 'fifo'],
    ['socket', 'socket'],
  ] as const) {
    assert.equal(readAttributes(join(directory, name), name, options).type, type)
  }
  const device = readAttributes('/dev/null', 'null', options)
  assert.deepEqual([device.type, device.major, device.minor], ['character-device', 1, 3])
})

test('a symbolic link is not followed, and its text may be any bytes', () => {
  const target = Buffer.from('6e6f2f7375636820ff0a', 'hex')
  const path = join(directory, 'bytes-link')
  fs.symlinkSync(target, path)
  const entry = readAttributes(path, 'bytes-link', options)
  assert.equal(entry.target, 'no/such \udcff\n')
  assert.equal(entry.size, undefined)
})

test('extended attributes: binary, empty and long values, odd names, sorted', (t) => {
  const path = file('xattrs')
  try {
    setXattr(path, 'user.probe', Buffer.from('x'))
  } catch (error) {
    // Not every temporary directory can hold them (tmpfs before Linux 6.6).
    assert.equal(error instanceof Error && 'code' in error && error.code, 'ENOTSUP')
    t.diagnostic('the temporary directory holds no extended attributes: nothing to read back')
    return
  }
  const long = Buffer.alloc(2000, 7)
  setXattr(path, 'user.z', long)
  setXattr(path, 'user.empty', Buffer.alloc(0))
  setXattr(path, Buffer.from('user.\xff\n', 'latin1'), Buffer.of(0, 255))
  assert.deepEqual(Object.entries(readAttributes(path, 'x', options).xattrs ?? {}), [
    ['user.empty', ''],
    ['user.probe', Buffer.from('x').toString('base64')],
    ['user.z', long.toString('base64')],
    ['user.\udcff\n', Buffer.of(0, 255).toString('base64')],
  ])
})

test('an ACL is kept as its raw attribute', () => {
  const path = file('acl')
  // Version 2; user::rw-, user:1234:r--, group::r--, mask::r--, other::--- (linux/posix_acl_xattr.h).
  const acl = Buffer.from(
    '02000000' + '01000600ffffffff' + '02000400d2040000' + '04000400ffffffff' + '10000400ffffffff' + '20000000ffffffff',
    'hex',
  )
  setXattr(path, 'system.posix_acl_access', acl)
  assert.equal(readAttributes(path, 'acl', options).xattrs?.['system.posix_acl_access'], acl.toString('base64'))
})

test('the number of names is told, for hard links', () => {
  const path = file('first')
  fs.linkSync(path, join(directory, 'second'))
  const first = inspect(path, 'first', options)
  assert.equal(first.links, 2)
  assert.equal(first.entry.inode, inspect(join(directory, 'second'), 'second', options).entry.inode)
})

test('what is gone throws ENOENT', () => {
  assert.throws(() => readAttributes(join(directory, 'nothing'), 'nothing', options), { code: 'ENOENT' })
})

test('names that are not UTF-8, by bytes and by path text', () => {
  const bytes = Buffer.concat([Buffer.from(`${directory}/`), Buffer.of(0xff, 0x0a)])
  fs.writeFileSync(bytes, '')
  assert.equal(readAttributes(bytes, '\udcff\n', options).type, 'file')
  assert.equal(readAttributes(`${directory}/\udcff\n`, '\udcff\n', options).type, 'file')
})

test('owner names come from the local files', () => {
  fs.writeFileSync(
    join(directory, 'passwd'),
    'root:x:0:0::/:/bin/sh\nalias:x:0:0::/:/bin/sh\n# no\nbad:x:y\nalice:x:1000:\n',
  )
  fs.writeFileSync(join(directory, 'group'), 'wheel:x:0:root\n')
  const owners = readOwnerNames({ passwd: join(directory, 'passwd'), group: join(directory, 'group') })
  assert.deepEqual(
    [owners.user(0), owners.user(1000), owners.user(7), owners.group(0)],
    ['root', 'alice', undefined, 'wheel'],
  )
  const none = readOwnerNames({ passwd: join(directory, 'no-passwd'), group: join(directory, 'no-group') })
  assert.equal(none.user(0), undefined)
})
