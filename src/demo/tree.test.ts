import assert from 'node:assert/strict'
import {
  appendFileSync,
  chmodSync,
  cpSync,
  linkSync,
  mkdtempSync,
  renameSync,
  rmSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { changeFolder, makeFolder } from './folder.ts'
import { compareTrees, describeTree } from './tree.ts'

const scratch = mkdtempSync(join(tmpdir(), 'regain-tree-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

const original = join(scratch, 'original')
const summary = await makeFolder(original, process.getuid?.() === 0)
const expected = await describeTree(original)

test('the folder holds hundreds of files, odd names and every kind', () => {
  assert.ok(summary.files > 250 && summary.files < 1000)
  const kinds = new Set([...expected.values()].map((facts) => (JSON.parse(facts) as { type: string }).type))
  assert.deepEqual([...kinds].sort(), ['directory', 'fifo', 'file', 'symlink'])
  assert.ok(expected.has('odd names/new\nline'))
  assert.ok(expected.has('odd names/f\udcff\udcfeo'), 'a name that is not UTF-8')
})

test('it is the same each time, but for the moments of its making', async () => {
  const second = join(scratch, 'second')
  await makeFolder(second, process.getuid?.() === 0)
  const { differences } = compareTrees(expected, await describeTree(second))
  assert.ok(
    differences.every((line) => /^differs: .*: mtime "\d+" became "\d+"$/.test(line)),
    differences.join('\n'),
  )
})

const DAMAGES: [what: string, damage: (copy: string) => void, expected: RegExp][] = [
  [
    'content',
    (copy) => writeFileSync(join(copy, 'private/key.pem'), 'x'.repeat(3000)),
    /^differs: private\/key\.pem: .*sha256/,
  ],
  ['size', (copy) => appendFileSync(join(copy, 'odd names/plain.txt'), 'x'), /^differs: odd names\/plain\.txt: .*size/],
  ['mode', (copy) => chmodSync(join(copy, 'empty'), 0o777), /^differs: empty: mode "1777" became "777"/],
  ['time', (copy) => utimesSync(join(copy, 'odd names/plain.txt'), 1, 1), /^differs: odd names\/plain\.txt: mtime/],
  ['missing', (copy) => unlinkSync(join(copy, 'special/pipe')), /^missing: special\/pipe/],
  ['added', (copy) => writeFileSync(join(copy, 'empty/new\nfile'), ''), /^not expected: empty\/new\\nfile/],
  [
    'hole filled',
    (copy) => writeFileSync(join(copy, 'special/disk.img'), Buffer.alloc(40 * 1024 * 1024, 1)),
    /sparse true became false/,
  ],
  [
    'hard link broken',
    (copy) => {
      cpSync(join(copy, 'catalogue.bin'), join(copy, 'catalogue.copy'), { preserveTimestamps: true })
      renameSync(join(copy, 'catalogue.copy'), join(copy, 'special/hard link'))
    },
    /^differs: special\/hard link: .*sameFileAs/,
  ],
  [
    'hard link made',
    (copy) => {
      unlinkSync(join(copy, 'odd names/plain.txt'))
      linkSync(join(copy, 'odd names/-rf'), join(copy, 'odd names/plain.txt'))
    },
    /^differs: odd names\/plain\.txt: .*sameFileAs/,
  ],
]

for (const [what, damage, pattern] of DAMAGES) {
  test(`a difference is found: ${what}`, async () => {
    const copy = join(scratch, `copy-${what}`)
    await makeFolder(copy, process.getuid?.() === 0)
    const before = await describeTree(copy)
    assert.deepEqual(compareTrees(before, await describeTree(copy)), { same: before.size, differences: [] })
    damage(copy)
    const { differences } = compareTrees(before, await describeTree(copy))
    assert.ok(
      differences.some((line) => pattern.test(line)),
      differences.join('\n'),
    )
    rmSync(copy, { recursive: true })
  })
}

test('some files change between two backups, and the comparison sees which', async () => {
  await changeFolder(original)
  const { differences } = compareTrees(expected, await describeTree(original))
  const changed = differences.map((line) => line.split(': ').slice(0, 2).join(': '))
  assert.deepEqual(changed.sort(), [
    'differs: catalogue.bin',
    'differs: invoices/2026',
    'differs: invoices/2026/invoice 0001.pdf',
    'differs: special/hard link',
    'not expected: invoices/2026/invoice 9999.pdf',
  ])
})
