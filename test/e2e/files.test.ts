import assert from 'node:assert/strict'
import {
  appendFileSync,
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { setXattr } from '../../src/filesystem/libc.ts'
import type { Point } from '../../src/model.ts'
import type { Repository } from '../../src/repository/api.ts'
import { createRepository } from '../../src/repository/repository.ts'
import { createFilesSource } from '../../src/sources/files/source.ts'
import { createLocalStorage } from '../../src/storage/local.ts'
import { everything, listen } from '../contract/source.ts'
import { describeTree, diffTrees, removeTree } from '../support/describe-tree.ts'
import { makeOddities } from '../support/oddities.ts'
import { testAmbient, testKey } from '../support/repository.ts'

/** The files source, the engine and local storage together, with nothing in memory's place. */
describe('a folder of every oddity in a real repository', () => {
  const isRoot = process.geteuid?.() === 0
  // After all that the test makes: no change time is too young to be trusted.
  const ambient = testAmbient(Date.UTC(2100, 0, 1))
  let folder = ''
  let root = ''
  let repository: Repository
  let close: () => Promise<void>
  const points: Point[] = []

  before(async () => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'regain-files-e2e-')))
    root = join(folder, 'root')
    await makeOddities(root, { deep: true, largeMebibytes: 40 })
    const storage = await createLocalStorage(join(folder, 'store'))
    repository = await createRepository({
      storage,
      keys: [await testKey(folder)],
      ambient,
      workers: 2,
      service: 'shop',
    })
    close = async () => {
      await repository.close()
      await storage.close()
    }
  })
  after(async () => {
    await close()
    removeTree(folder)
  })

  const source = () => createFilesSource({ paths: [root], exclude: [] }, ambient, { skip: [join(folder, 'store')] })

  async function backUp(): Promise<Point> {
    const { options } = listen()
    const request = { source: 'files', sourceType: 'files', tool: 'test', ...options }
    const session = await repository.startPoint(request)
    const summary = await source().backup(session, options)
    const point = await session.commit(summary)
    points.push(point)
    return point
  }

  async function assertRestores(point: Point, name: string, inPlace = false): Promise<void> {
    const target = join(folder, name)
    mkdirSync(target, { recursive: inPlace })
    const reader = await repository.openPoint(point.id, { signal: new AbortController().signal })
    try {
      const over = inPlace ? { inPlace: { resumes: false, changing: () => undefined } } : {}
      const summary = await source().restore(reader, { ...everything(target), ...over }, listen().options)
      assert.deepEqual(summary.missed, [])
    } finally {
      await reader.close()
    }
    const diff = diffTrees(await describeTree(root), await describeTree(target))
    // What an ordinary user cannot read is not in its backup, and the point has said so.
    const others = diff.filter((line) => isRoot || !line.startsWith('- ./modes/unreadable '))
    assert.deepEqual(others.slice(0, 20), [], `${others.length} lines differ`)
  }

  it('comes back attribute by attribute', async () => {
    const point = await backUp()
    assert.deepEqual(
      point.missed.map(({ path }) => path),
      isRoot ? [] : ['modes/unreadable'],
    )
    await assertRestores(point, 'first')
  })

  it('comes back over what became of it, attribute by attribute', async () => {
    const target = join(folder, 'first')
    // Every folder and file gets something that it must lose, or loses something.
    const names = namesBelow(target).filter((name) => !name.startsWith('deep'))
    for (const [number, name] of names.entries()) {
      const path = join(target, name)
      const stat = lstatSync(path, { throwIfNoEntry: false })
      if (stat === undefined || stat.isSymbolicLink()) continue
      if (number % 3 === 0) chmodSync(path, 0o751)
      if (number % 3 === 1 && (stat.isFile() || stat.isDirectory())) setXattr(path, 'user.foreign', Buffer.from('x'))
      if (number % 7 === 2 && stat.isFile()) appendFileSync(path, 'more')
      if (number % 11 === 3 && stat.isFile()) linkSync(path, join(folder, `outside-${number}`))
      if (stat.isDirectory() && number % 5 === 0) writeFileSync(join(path, 'foreign'), '')
    }
    const outside = readdirSync(folder).filter((name) => name.startsWith('outside-'))
    const before = outside.map((name) => readFileSync(join(folder, name)).toString('base64'))
    assert.ok(outside.length > 0)
    await assertRestores(points[0]!, 'first', true)
    assert.deepEqual(
      outside.map((name) => readFileSync(join(folder, name)).toString('base64')),
      before,
    )
  })

  it('is not read a second time, and comes back the same', async () => {
    const point = await backUp()
    assert.equal(point.kind, 'incremental')
    assert.equal(point.bytes.read, 0)
    await assertRestores(point, 'second')
  })

  it('is at rest until every file has been read', async () => {
    // What `before` writes, `after` cuts off: were it run too early, the engine would see the file change.
    // Its name is the last of all: nothing else takes time after it was handed over.
    const content = join(root, 'zz-frozen')
    const large = 'head -c 60000000 /dev/urandom'
    const commands = { before: `${large} > '${content}'`, after: `: > '${content}'` }
    const { options } = listen('full')
    const session = await repository.startPoint({ source: 'rest', sourceType: 'files', tool: 'test', ...options })
    const summary = await createFilesSource({ paths: [root], exclude: [], ...commands }, ambient).backup(
      session,
      options,
    )
    const point = await session.commit(summary)
    points.push(point)
    assert.deepEqual(
      point.missed.map(({ path }) => path),
      isRoot ? [] : ['modes/unreadable'],
    )
    const reader = await repository.openPoint(point.id, { signal: options.signal })
    assert.equal((await reader.entry('zz-frozen'))?.size, 60_000_000)
    await reader.close()
  })

  it('is sound to the last byte', async () => {
    const report = await repository.verify({
      readData: true,
      signal: listen().options.signal,
      progress: () => undefined,
    })
    assert.deepEqual(report.problems, [])
    assert.equal(report.points, points.length)
  })
})

/** Those that are text, as deep as a path can be long; symbolic links are not followed. */
function namesBelow(directory: string, prefix = ''): string[] {
  return readdirSync(join(directory, prefix), { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.includes('\ufffd')) return []
    const name = join(prefix, entry.name)
    return [name, ...(entry.isDirectory() && entry.name !== 'deep' ? namesBelow(directory, name) : [])]
  })
}
