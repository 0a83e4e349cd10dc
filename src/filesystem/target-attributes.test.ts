import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { entry, inTree, TargetFolders, writeFile } from '../../test/support/target-folders.ts'
import { readAttributes } from './attributes.ts'
import { readOwnerNames } from './owners.ts'
import type { TargetTree } from './target.ts'

const isRoot = process.geteuid?.() === 0
const folders = new TargetFolders()
after(() => folders.remove())

let directory = ''
beforeEach(() => {
  directory = folders.next().directory
})

const withTree = (act: (tree: TargetTree) => void, options?: Parameters<typeof TargetTree.open>[1]): void =>
  inTree(directory, act, options)

test('attributes come back as they were read: mode, time, extended attributes, ACL', () => {
  const acl = Buffer.from(
    `02000000${'01000700ffffffff'}02000400d2040000${'04000500ffffffff'}${'10000500ffffffff'}${'20000000ffffffff'}`,
    'hex',
  )
  const xattrs = {
    'system.posix_acl_access': acl.toString('base64'),
    'user.\udcff': Buffer.of(0, 1).toString('base64'),
  }
  const wanted = [
    entry('file', 'file', { mode: 0o4750, mtime: '-123456789', xattrs, size: 0 }),
    entry('dir', 'directory', { mode: 0o1755, mtime: '4102444800999999999' }),
    entry('link', 'symlink', { mode: 0o777, mtime: '1', target: 'x' }),
    entry('fifo', 'fifo', { mode: 0o640, mtime: '1700000000000000001' }),
    entry('socket', 'socket', { mode: 0o400, mtime: '2' }),
    entry('locked', 'directory', { mode: 0, mtime: '3' }),
  ]
  withTree((tree) => {
    for (const one of wanted) {
      if (one.type === 'directory') tree.makeDirectory(one.path)
      else if (one.type === 'file') writeFile(tree, one.path, '')
      else tree.createOther(one)
      assert.deepEqual(tree.setAttributes(one, { ownership: isRoot }), [])
    }
  })
  for (const one of wanted) {
    const { ctime, inode, device, owner, group, ...found } = readAttributes(join(directory, one.path), one.path, {
      owners: readOwnerNames(),
    })
    assert.deepEqual(found, one)
    assert.ok(ctime && inode && device && owner !== '' && group !== '')
  }
  fs.chmodSync(join(directory, 'locked'), 0o700)
})

test('attributes can be set through the handle that wrote the content', () => {
  withTree((tree) => {
    const fd = tree.createFile('f')
    fs.writeSync(fd, 'text')
    assert.deepEqual(
      tree.setAttributes(entry('f', 'file', { mode: 0o444, mtime: '1500000000000000007' }), { ownership: false }, fd),
      [],
    )
    tree.closeFile(fd)
  })
  const stat = fs.statSync(join(directory, 'f'), { bigint: true })
  assert.deepEqual([stat.mode & 0o7777n, stat.mtimeNs], [0o444n, 1500000000000000007n])
})

test('owners, capabilities and devices come back when root restores, and are named as missing when not', () => {
  // vfs_cap_data of linux/capability.h, version 2: cap_net_raw permitted and effective.
  const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex').toString('base64')
  const file = entry('file', 'file', {
    mode: 0o6755,
    uid: 1234,
    gid: 5678,
    xattrs: { 'security.capability': capability },
  })
  const link = entry('link', 'symlink', { uid: 1234, gid: 5678, target: 'x' })
  const device = entry('device', 'character-device', {
    uid: 1234,
    gid: 5678,
    mode: 0o620,
    major: 0xabc,
    minor: 0xabcde,
  })
  withTree((tree) => {
    writeFile(tree, 'file', '')
    tree.createOther(link)
    if (!isRoot) {
      assert.match(tree.createOther(device) ?? '', /EPERM/)
      assert.match(
        tree.setAttributes(file, { ownership: true }).join('\n'),
        /owner 1234:5678.*\n.*0755 instead of 6755.*\n.*security\.capability/,
      )
      return
    }
    assert.equal(tree.createOther(device), null)
    for (const one of [file, link, device]) assert.deepEqual(tree.setAttributes(one, { ownership: true }), [])
    for (const one of [file, link, device]) {
      const found = readAttributes(join(directory, one.path), one.path, { owners: readOwnerNames() })
      assert.deepEqual([found.uid, found.gid, found.major, found.minor], [1234, 5678, one.major, one.minor])
      if (one.type !== 'symlink') assert.equal(found.mode, one.mode)
      assert.deepEqual(found.xattrs, one.xattrs)
    }
  })
})

test('a file that ran with its owner’s rights does not do so for whoever restores it', () => {
  withTree((tree) => {
    writeFile(tree, 'f', '')
    const reasons = tree.setAttributes(entry('f', 'file', { mode: 0o6755, uid: 54321, gid: 54321 }), {
      ownership: false,
    })
    assert.equal(reasons.length, 1)
    assert.match(reasons[0] ?? '', /mode is 0755 instead of 6755/)
  })
  assert.equal(fs.statSync(join(directory, 'f')).mode & 0o7777, 0o755)
})

test('an attribute that cannot be set is a reason, and the others are set all the same', () => {
  withTree((tree) => {
    writeFile(tree, 'f', '')
    const hostile = entry('f', 'file', { mode: 0o640, mtime: 'soon', xattrs: { 'nonsense.x': 'AA==' } })
    const reasons = tree.setAttributes(hostile, { ownership: false })
    assert.match(reasons.join('\n'), /nonsense\.x could not be set \(ENOTSUP\)\nmodification time soon/)
    assert.match(tree.setAttributes({ ...hostile, uid: -1 }, { ownership: true }).join('\n'), /owner -1/)
  })
  assert.equal(fs.statSync(join(directory, 'f')).mode & 0o7777, 0o640)
})

test('a read-only file gets its own attributes, also from an ordinary user', (t) => {
  if (process.getuid?.() === 0) {
    t.diagnostic('as root every order works; run as an ordinary user, this test tells them apart')
  }
  withTree((tree) => {
    writeFile(tree, 'f', '')
    const locked = entry('f', 'file', { mode: 0o444, xattrs: { 'user.note': 'aGk=' } })
    assert.deepEqual(tree.setAttributes(locked, { ownership: false }), [])
  })
  assert.equal(fs.statSync(join(directory, 'f')).mode & 0o7777, 0o444)
})
