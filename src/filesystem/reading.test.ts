import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { readAttributes } from './attributes.ts'
import { AT_FDCWD, close, mkdirAt, mknodAt, O_DIRECTORY, O_PATH, openAt } from './libc.ts'
import { readOwnerNames } from './owners.ts'
import { openForReading } from './reading.ts'

const directory = fs.mkdtempSync(join(tmpdir(), 'regain-reading-'))
after(() => fs.rmSync(directory, { recursive: true }))

test('a regular file is opened, with its attributes at that moment', () => {
  fs.writeFileSync(join(directory, 'file'), 'hello')
  const { fd, stat } = openForReading(Buffer.from(join(directory, 'file')))
  assert.equal(stat.size, 5n)
  assert.equal(fs.readFileSync(fd, 'utf8'), 'hello')
  close(fd)
})

test('neither follows a link nor waits for a FIFO that took the place of a file', () => {
  fs.symlinkSync('file', join(directory, 'link'))
  mknodAt(AT_FDCWD, join(directory, 'fifo'), 0o010600)
  assert.throws(() => openForReading(join(directory, 'link')), { code: 'ELOOP' })
  assert.throws(() => openForReading(join(directory, 'fifo')), { code: 'ESTALE' })
  assert.throws(() => openForReading(directory), { code: 'ESTALE' })
  assert.throws(() => openForReading(join(directory, 'gone')), { code: 'ENOENT' })
})

test('a path that holds a NUL is refused, not cut there', () => {
  assert.throws(() => openForReading(Buffer.from(`${join(directory, 'file')}\0x`)), { code: 'EINVAL' })
})

test('a file deeper than PATH_MAX is reached', () => {
  const name = 'd'.repeat(250)
  let parent = openAt(AT_FDCWD, directory, O_PATH | O_DIRECTORY)
  const handles = [parent]
  for (let depth = 0; depth < 40; depth++) {
    mkdirAt(parent, name, 0o700)
    parent = openAt(parent, name, O_PATH | O_DIRECTORY)
    handles.push(parent)
  }
  fs.writeFileSync(`/proc/self/fd/${parent}/leaf`, 'deep')
  const path = `${directory}/${`${name}/`.repeat(40)}leaf`
  assert.ok(path.length > 10_000)
  const { fd } = openForReading(Buffer.from(path))
  assert.equal(fs.readFileSync(fd, 'utf8'), 'deep')
  close(fd)
  assert.equal(readAttributes(path, 'leaf', { owners: readOwnerNames() }).size, 4)
  assert.throws(() => openForReading(`${path}x`), { code: 'ENOENT' })
  // node's rm goes by path and cannot remove it.
  fs.rmSync(`/proc/self/fd/${parent}/leaf`)
  for (let depth = 39; depth >= 0; depth--) {
    close(handles[depth + 1] as number)
    fs.rmdirSync(`/proc/self/fd/${handles[depth]}/${name}`)
  }
  close(handles[0] as number)
})

test('one name that is too long is said to be so', () => {
  assert.throws(() => openForReading('/'.padEnd(5000, 'x')), { code: 'ENAMETOOLONG' })
})
