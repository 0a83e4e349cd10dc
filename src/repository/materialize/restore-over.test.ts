import assert from 'node:assert/strict'
import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import {
  assertSameTree,
  backUp,
  chooseSeed,
  createTestRepository,
  readTree,
  seededNumbers,
  someBytes,
  type TestRepository,
  temporaryFolder,
  uninterrupted,
  writeTree,
} from '../../../test/support/repository.ts'
import { openMemoryStorage } from '../../storage/memory.ts'

const MIB = 1024 * 1024

describe('a restore over what is there', () => {
  const folder = temporaryFolder()
  const tree = join(folder.path, 'tree')
  let made: TestRepository
  let id: string

  before(async () => {
    made = await createTestRepository(openMemoryStorage(), folder.path)
    writeTree(tree, {
      'large/one': someBytes('one', 9 * MIB),
      'large/two': someBytes('two', 2 * MIB),
      'small/empty': '',
      'small/text': 'text',
      'small/other': 'other text',
      'deep/er/still/file': 'deep down',
      link: { link: 'small/text' },
      sparse: { size: 4 * MIB, data: [[MIB, someBytes('data', 5000)]] },
    })
    for (let n = 0; n < 15; n++) writeTree(tree, { [`many/${n}`]: someBytes(String(n), 1000 + n) })
    id = (await backUp(made.repository, tree)).point.id
  })
  after(async () => {
    await made.repository.close()
    folder.remove()
  })

  async function restoreOver(to: string, changing: () => void = () => undefined, options = {}) {
    const point = await made.repository.openPoint(id, { signal: uninterrupted() })
    const reporting = { signal: uninterrupted(), progress: () => undefined, warn: () => undefined }
    try {
      return await point.materialize(to, { ...reporting, over: { changing }, ...options })
    } finally {
      await point.close()
    }
  }

  async function freshCopy(): Promise<string> {
    const to = join(temporaryFolderOfTest(), 'target')
    mkdirSync(to)
    await restoreOver(to)
    assertSameTree(readTree(to), readTree(tree))
    return to
  }

  const folders: { remove(): void }[] = []
  function temporaryFolderOfTest(): string {
    const made = temporaryFolder()
    folders.push(made)
    return made.path
  }
  after(() => {
    for (const one of folders) one.remove()
  })

  it('writes only what differs, whatever sizes and times say, and removes the rest', async () => {
    const to = await freshCopy()
    const { atime, mtime } = statSync(join(to, 'large/one'))
    const bytes = readFileSync(join(to, 'large/one'))
    bytes[7 * MIB] = (bytes[7 * MIB] as number) ^ 1
    writeFileSync(join(to, 'large/one'), bytes)
    utimesSync(join(to, 'large/one'), atime, mtime)
    truncateSync(join(to, 'large/two'), MIB)
    appendFileSync(join(to, 'small/text'), ' and more')
    writeFileSync(join(to, 'small/empty'), 'not empty')
    writeTree(to, { 'new/folder/file': 'x', 'large/three': 'y', 'many/0.copy': 'z' })
    rmSync(join(to, 'many/7'))
    // Data where the point has a hole.
    writeFileSync(join(to, 'sparse'), someBytes('no hole', 4 * MIB))

    const { bytes: written, files, missed, over } = await restoreOver(to)
    assert.deepEqual(missed, [])
    assertSameTree(readTree(to), readTree(tree))
    assert.ok(written < 7 * MIB, `${written} bytes were written`)
    assert.ok((over?.reusedBytes ?? 0) > 5 * MIB)
    assert.equal(files, 22)
    assert.equal(over?.removed, 3)

    const again = await restoreOver(to)
    assert.ok(again.bytes < 100_000, `${again.bytes} bytes were written again`)
    assertSameTree(readTree(to), readTree(tree))
  })

  it('goes through no link and into no file that has another name', async () => {
    const to = await freshCopy()
    const outside = join(temporaryFolderOfTest(), 'outside')
    writeTree(outside, { 'still/file': 'of another', single: 'of another too' })
    rmSync(join(to, 'deep/er'), { recursive: true })
    symlinkSync(outside, join(to, 'deep/er'))
    rmSync(join(to, 'small/other'))
    linkSync(join(outside, 'single'), join(to, 'small/other'))
    // The right content under two names: writing to one would be writing to both.
    rmSync(join(to, 'many/3'))
    linkSync(join(to, 'many/4'), join(to, 'many/3'))
    rmSync(join(to, 'link'))
    symlinkSync(outside, join(to, 'link'))
    symlinkSync(outside, join(to, 'extra'))
    renameSync(join(to, 'large/two'), join(to, 'large/moved'))
    mkdirSync(join(to, 'large/two'))
    writeFileSync(join(to, 'large/two/file'), '')
    rmSync(join(to, 'many/9'))
    mkdirSync(join(to, 'many/9'))
    const before = readTree(outside)

    await restoreOver(to)
    assertSameTree(readTree(to), readTree(tree))
    assertSameTree(readTree(outside), before)
    assert.equal(statSync(join(to, 'many/3')).nlink, 1)
  })

  it('leaves alone what was not asked for', async () => {
    const to = await freshCopy()
    writeTree(to, { 'small/text': 'changed', 'small/mine': 'stays', 'many/0': 'changed' })
    const wanted = new Set(['', 'small', 'small/text'])
    await restoreOver(to, undefined, { select: (entry: { path: string }) => wanted.has(entry.path) })
    assert.equal(readFileSync(join(to, 'small/text'), 'utf8'), 'text')
    assert.equal(readFileSync(join(to, 'small/mine'), 'utf8'), 'stays')
    assert.equal(readFileSync(join(to, 'many/0'), 'utf8'), 'changed')
  })

  it('puts what lies elsewhere there, and takes what stands beside it for another’s', async () => {
    const place = join(temporaryFolderOfTest(), 'place')
    mkdirSync(place)
    const to = join(temporaryFolderOfTest(), 'target')
    const places = [{ path: 'large', directory: place }]
    const reporting = { signal: uninterrupted(), progress: () => undefined, warn: () => undefined }
    const point = await made.repository.openPoint(id, { signal: uninterrupted() })
    await point.materialize(to, { ...reporting, places })
    await point.close()
    assert.equal(existsSync(join(to, 'large')), false)
    assert.deepEqual(readdirSync(place).sort(), ['one', 'two'])
    symlinkSync(place, join(to, 'large'))
    writeTree(place, { 'of-another/file': 'x', two: 'changed' })
    const { over } = await restoreOver(to, undefined, { places })
    assert.ok((over?.reusedBytes ?? 0) > 5 * MIB)
    assert.deepEqual(readdirSync(place).sort(), ['of-another', 'one', 'two'])
    rmSync(join(place, 'of-another'), { recursive: true })
    const expected = [...readTree(join(tree, 'large'))].filter(([path]) => path !== '')
    assertSameTree(new Map([...readTree(place)].filter(([path]) => path !== '')), new Map(expected))
  })

  it('of anything gives the point', async () => {
    const seed = chooseSeed()
    console.log(`seed ${seed}`)
    const number = seededNumbers(seed)
    const to = await freshCopy()
    for (let round = 0; round < 3; round++) {
      for (let change = 0; change < 12; change++) spoil(to, number)
      await restoreOver(to)
      assertSameTree(readTree(to), readTree(tree))
    }
  })

  it('changes nothing if the point is known not to be whole', async () => {
    const storage = openMemoryStorage()
    const other = await createTestRepository(storage, folder.path)
    const { point } = await backUp(other.repository, tree)
    const to = await freshCopy()
    writeFileSync(join(to, 'small/text'), 'mine')
    const whole = [...storage.objects]
    const [[largest, bytes] = ['', Buffer.alloc(0)]] = whole
      .filter(([name]) => name.startsWith('packs/'))
      .sort(([, a], [, b]) => b.length - a.length)
    const damages: (() => void)[] = [
      () => storage.objects.delete(largest),
      () => storage.objects.set(largest, bytes.subarray(0, -1)),
      () => {
        for (const [name] of whole) if (name === largest || name.startsWith('index/')) storage.objects.delete(name)
      },
    ]
    for (const damage of damages) {
      for (const [name, object] of whole) storage.objects.set(name, object)
      damage()
      const opened = await other.repository.openPoint(point.id, { signal: uninterrupted() })
      const reporting = { signal: uninterrupted(), progress: () => undefined, warn: () => undefined }
      const over = { changing: () => assert.fail('it was to be written over') }
      await assert.rejects(opened.materialize(to, { ...reporting, over }), {
        code: 'repository-damaged',
        message: /is lost: .* Nothing was changed/,
      })
      await opened.close()
      assert.equal(readFileSync(join(to, 'small/text'), 'utf8'), 'mine')
    }
    await other.repository.close()
  })
})

/** One of the things that can have become of a path. */
function spoil(to: string, number: (below: number) => number): void {
  const paths = [...readTree(to).keys()].filter((path) => path !== '')
  const path = join(to, paths[number(paths.length)] ?? 'many')
  const isFile = existsSync(path) && statSync(path).isFile()
  switch (number(6)) {
    case 0:
      rmSync(path, { recursive: true, force: true })
      return
    case 1:
      if (isFile) appendFileSync(path, someBytes(String(number(100)), number(200_000)))
      return
    case 2:
      if (isFile) truncateSync(path, number(statSync(path).size + 1))
      return
    case 3: {
      if (!isFile) return
      const bytes = readFileSync(path)
      if (bytes.length > 0) bytes[number(bytes.length)] = number(256)
      writeFileSync(path, bytes)
      return
    }
    case 4:
      rmSync(path, { recursive: true, force: true })
      mkdirSync(path)
      writeFileSync(join(path, 'inside'), 'x')
      return
    case 5:
      rmSync(path, { recursive: true, force: true })
      symlinkSync('/etc', path)
  }
}
