import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { basename, join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { entry, inTree, TargetFolders, writeFile } from '../../test/support/target-folders.ts'
import { isRegainError } from '../errors.ts'
import { readAttributes } from './attributes.ts'
import { readOwnerNames } from './owners.ts'
import { TargetTree } from './target.ts'

const isRoot = process.geteuid?.() === 0
const folders = new TargetFolders()
after(() => folders.remove())

let directory = ''
let outside = ''
beforeEach(() => {
  ;({ directory, outside } = folders.next())
})

const withTree = (act: (tree: TargetTree) => void, options?: Parameters<typeof TargetTree.open>[1]): void =>
  inTree(directory, act, options)

const damaged = (error: unknown) => isRegainError(error, 'repository-damaged')

for (const openat2 of [true, false]) {
  const way = openat2 ? 'openat2' : 'one component at a time'

  test(`creates folders, files and others (${way})`, () => {
    withTree(
      (tree) => {
        tree.makeDirectory('')
        tree.makeDirectory('a')
        tree.makeDirectory('a/b')
        writeFile(tree, 'a/b/\udcff\n', 'bytes')
        assert.equal(tree.createOther(entry('a/link', 'symlink', { target: '/nowhere/\udcfe' })), null)
        assert.equal(tree.createOther(entry('a/fifo', 'fifo')), null)
        assert.equal(tree.createOther(entry('a/socket', 'socket')), null)
        assert.equal(tree.createHardLink(entry('a/again', 'file', { hardLink: 'a/b/\udcff\n' })), null)
        tree.syncDirectory('a/b')
        tree.syncDirectory('')
        tree.syncFilesystem()
      },
      { openat2 },
    )
    const odd = Buffer.concat([Buffer.from(`${directory}/a/b/`), Buffer.of(0xff, 0x0a)])
    assert.equal(fs.readFileSync(odd, 'utf8'), 'bytes')
    assert.equal(fs.statSync(odd).mode & 0o7777, 0o600)
    assert.equal(fs.statSync(join(directory, 'a')).mode & 0o7777, 0o700)
    assert.equal(fs.statSync(odd).ino, fs.statSync(join(directory, 'a/again')).ino)
    assert.deepEqual(fs.readlinkSync(join(directory, 'a/link'), 'buffer'), Buffer.from('2f6e6f77686572652ffe', 'hex'))
    assert.ok(fs.lstatSync(join(directory, 'a/fifo')).isFIFO())
    assert.ok(fs.lstatSync(join(directory, 'a/socket')).isSocket())
  })

  test(`a link from the listing is no way out (${way})`, () => {
    withTree(
      (tree) => {
        for (const [name, target] of [
          ['abs', outside],
          ['rel', `../${basename(outside)}`],
          ['up', '..'],
          ['self', '.'],
        ] as const) {
          tree.createOther(entry(name, 'symlink', { target }))
          assert.throws(() => tree.createFile(`${name}/x`), damaged)
          assert.throws(() => tree.makeDirectory(`${name}/x`), damaged)
          assert.throws(() => tree.createOther(entry(`${name}/x`, 'fifo')), damaged)
          assert.throws(() => tree.createHardLink(entry(`${name}/x`, 'file', { hardLink: 'abs' })), damaged)
          assert.throws(() => tree.setAttributes(entry(`${name}/x`, 'directory'), { ownership: false }), damaged)
          assert.throws(() => tree.setAttributes(entry(name, 'directory', { mode: 0 }), { ownership: false }), damaged)
          assert.throws(() => tree.setAttributes(entry(name, 'file', { mode: 0 }), { ownership: false }), damaged)
          assert.throws(() => tree.openFile(name), damaged)
          assert.throws(() => tree.syncDirectory(name), damaged)
        }
        fs.symlinkSync(join(outside, 'new'), join(directory, 'dangling'))
        assert.throws(
          () => tree.createFile('dangling'),
          (error) => isRegainError(error, 'target-not-empty'),
        )
      },
      { openat2 },
    )
    assert.deepEqual(fs.readdirSync(outside), [])
    assert.notEqual(fs.statSync(outside).mode & 0o777, 0)
  })

  test(`a folder swapped for a link is noticed, or its handle still leads to the folder itself (${way})`, () => {
    withTree(
      (tree) => {
        tree.makeDirectory('a')
        tree.makeDirectory('a/b')
        writeFile(tree, 'a/b/before', '')
        fs.renameSync(join(directory, 'a'), join(directory, 'moved'))
        fs.symlinkSync(outside, join(directory, 'a'))
        fs.mkdirSync(join(outside, 'b'))
        writeFile(tree, 'a/b/after', '')
        assert.deepEqual(fs.readdirSync(join(directory, 'moved/b')).sort(), ['after', 'before'])
        withTree((fresh) => assert.throws(() => fresh.createFile('a/b/x'), damaged), { openat2 })
      },
      { openat2 },
    )
    assert.deepEqual(fs.readdirSync(join(outside, 'b')), [])
  })
}

test('refuses hostile paths in every call', () => {
  withTree((tree) => {
    for (const path of ['../x', '/x', 'a/../../x', 'a//x', './x', 'a\0b', '..']) {
      assert.throws(() => tree.makeDirectory(path), damaged)
      assert.throws(() => tree.createFile(path), damaged)
      assert.throws(() => tree.openFile(path), damaged)
      assert.throws(() => tree.createOther(entry(path, 'fifo')), damaged)
      assert.throws(() => tree.createHardLink(entry(path, 'file', { hardLink: 'a' })), damaged)
      assert.throws(() => tree.createHardLink(entry('a', 'file', { hardLink: path })), damaged)
      assert.throws(() => tree.setAttributes(entry(path, 'directory'), { ownership: false }), damaged)
      assert.throws(() => tree.syncDirectory(path), damaged)
    }
    assert.throws(() => tree.createFile(''), damaged)
    assert.throws(() => tree.createOther(entry('', 'symlink', { target: outside })), damaged)
  })
})

test('nothing lands outside while someone swaps a folder for a link as fast as they can', async () => {
  fs.mkdirSync(join(directory, 'a'))
  fs.symlinkSync(outside, join(directory, 'link'))
  const swapping = new Int32Array(new SharedArrayBuffer(8))
  const attacker = new Worker(
    `const fs = require('node:fs'); const { dir, flags } = require('node:worker_threads').workerData
     while (Atomics.load(flags, 0) === 0) {
       fs.renameSync(dir + '/a', dir + '/real'); fs.renameSync(dir + '/link', dir + '/a')
       fs.renameSync(dir + '/a', dir + '/link'); fs.renameSync(dir + '/real', dir + '/a')
       Atomics.add(flags, 1, 1); Atomics.notify(flags, 1)
     }`,
    { eval: true, workerData: { dir: directory, flags: swapping } },
  )
  const ended = new Promise((resolve, reject) => attacker.once('exit', resolve).once('error', reject))
  Atomics.wait(swapping, 1, 0)
  let made = 0
  let refused = 0
  try {
    for (const openat2 of [true, false]) {
      // Until both outcomes were seen, so that the race is known to have been run.
      for (let i = 0; i < 200_000 && (i < 3000 || made === 0 || refused === 0); i++) {
        withTree(
          (tree) => {
            try {
              tree.closeFile(tree.createFile(`a/${openat2}-${i}`))
              made += 1
            } catch (error) {
              // Between two renames there is no `a` at all.
              assert.ok(
                isRegainError(error, 'repository-damaged') || isRegainError(error, 'precondition-failed'),
                String(error),
              )
              refused += 1
            }
          },
          { openat2 },
        )
      }
    }
  } finally {
    Atomics.store(swapping, 0, 1)
    await ended
  }
  assert.deepEqual(fs.readdirSync(outside), [])
  assert.ok(made > 0 && refused > 0, `${made} made, ${refused} refused`)
})

test('what exists already is not written over', () => {
  fs.writeFileSync(join(directory, 'kept'), 'mine')
  withTree((tree) => {
    for (const act of [
      () => tree.createFile('kept'),
      () => tree.makeDirectory('kept'),
      () => tree.createOther(entry('kept', 'symlink', { target: 'x' })),
    ]) {
      assert.throws(act, (error) => isRegainError(error, 'target-not-empty'))
    }
  })
  assert.equal(fs.readFileSync(join(directory, 'kept'), 'utf8'), 'mine')
})

test('a file can be written in parts; only a regular file is opened for it', () => {
  withTree((tree) => {
    writeFile(tree, 'f', 'one two')
    const fd = tree.openFile('f')
    fs.writeSync(fd, 'ONE', 0)
    tree.closeFile(fd)
    tree.makeDirectory('d')
    tree.createOther(entry('fifo', 'fifo'))
    assert.throws(() => tree.openFile('d'))
    assert.throws(() => tree.openFile('fifo'))
  })
  assert.equal(fs.readFileSync(join(directory, 'f'), 'utf8'), 'ONE two')
})

test('a hard link to what is not there is a reason, not the end of a restore', () => {
  withTree((tree) => {
    for (const hardLink of ['gone', 'gone/deeper']) {
      const reason = tree.createHardLink(entry('again', 'file', { hardLink }))
      assert.equal(reason?.isAbsent, true)
      assert.match(reason?.detail ?? '', /ENOENT/)
    }
  })
})

test('few handles serve many folders, and none is left open', () => {
  const before = fs.readdirSync('/proc/self/fd').length
  withTree(
    (tree) => {
      for (let i = 0; i < 50; i++) {
        tree.makeDirectory(`d${i}`)
        tree.makeDirectory(`d${i}/e`)
      }
      for (let i = 0; i < 200; i++) writeFile(tree, `d${i % 50}/e/f${i}`, '')
      tree.createHardLink(entry('d1/e/again', 'file', { hardLink: 'd49/e/f49' }))
      assert.ok(fs.readdirSync('/proc/self/fd').length <= before + 5)
    },
    { handleLimit: 3 },
  )
  assert.equal(fs.readdirSync('/proc/self/fd').length, before)
  assert.equal(fs.readdirSync(join(directory, 'd7/e')).length, 4)
})

test('a tree deeper than PATH_MAX is written', () => {
  const name = 'n'.repeat(200)
  withTree((tree) => {
    let path = name
    for (let depth = 0; depth < 30; depth++, path += `/${name}`) tree.makeDirectory(path)
    writeFile(tree, path, 'deep')
    assert.deepEqual(tree.setAttributes(entry(path, 'file', { mtime: '5' }), { ownership: false }), [])
    assert.equal(readAttributes(`${directory}/${path}`, '', { owners: readOwnerNames() }).mtime, '5')
    withTree((fresh) => fresh.closeFile(fresh.openFile(path)))
    withTree((fresh) => fresh.closeFile(fresh.openFile(path)), { openat2: false })
  })
  // node's rm goes by path: pull the lower half up first.
  const half = `${name}/`.repeat(15)
  fs.renameSync(`${directory}/${half}${name}`, `${directory}/lower`)
})

test('works in a worker thread, whose end finds no handle that node does not know', async () => {
  const worker = new Worker(
    `import { parentPort, workerData } from 'node:worker_threads'
     import { writeSync } from 'node:fs'
     const warnings = []
     process.on('warning', (warning) => warnings.push(warning.message))
     const { TargetTree } = await import(workerData.module)
     const tree = TargetTree.open({ directory: workerData.directory, places: [] })
     const fd = tree.createFile('from-worker')
     writeSync(fd, 'hello')
     tree.closeFile(fd)
     tree.syncDirectory('')
     tree.close()
     setImmediate(() => parentPort.postMessage(warnings))`,
    { eval: true, workerData: { module: new URL('./target.ts', import.meta.url).href, directory } },
  )
  const warnings = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  await worker.terminate()
  assert.deepEqual(warnings, [])
  assert.equal(fs.readFileSync(join(directory, 'from-worker'), 'utf8'), 'hello')
})

test('no space and no permission are said in the words of a restore', (t) => {
  withTree((tree) => {
    assert.throws(
      () => tree.createFile(`${'x'.repeat(255)}/y`),
      (error) => isRegainError(error, 'precondition-failed'),
    )
  })
  assert.throws(
    () => TargetTree.open({ directory: join(directory, 'none'), places: [] }),
    (error) => isRegainError(error, 'precondition-failed'),
  )
  if (isRoot) {
    t.diagnostic('root may write anywhere: the refusal for lack of permission was left out')
    return
  }
  fs.chmodSync(directory, 0o500)
  withTree((tree) =>
    assert.throws(
      () => tree.createFile('f'),
      (error) => isRegainError(error, 'not-permitted'),
    ),
  )
  fs.chmodSync(directory, 0o700)
})
