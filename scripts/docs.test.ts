import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { ERRORS_PAGE, errorsPage } from './docs.ts'

const ROOT = join(import.meta.dirname, '..')

test('docs/errors.md is what the error catalog says', () => {
  const page = readFileSync(join(ROOT, ERRORS_PAGE), 'utf8')
  assert.equal(page, errorsPage(), 'out of date: run node scripts/docs.ts')
})

test('every exit status of the catalog is explained', () => {
  assert.doesNotMatch(errorsPage(), /undefined/)
})

test('links between the documents lead to files', () => {
  const pages = [...globSync('*.md', { cwd: ROOT }), ...globSync('docs/**/*.md', { cwd: ROOT })]
  const broken: string[] = []
  for (const page of pages) {
    const text = readFileSync(join(ROOT, page), 'utf8')
    for (const [, link = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?:|mailto:|#)/.test(link)) continue
      const target = join(ROOT, page, '..', link.split('#')[0] ?? '')
      if (globSync(target).length === 0) broken.push(`${page}: ${link}`)
    }
  }
  assert.deepEqual(broken, [])
})

test('every decision has a number of its own, in its title as well, and stands in their list', () => {
  const folder = join(ROOT, 'docs/decisions')
  const list = readFileSync(join(folder, 'README.md'), 'utf8')
  const expected = globSync('0*.md', { cwd: folder })
    .sort()
    .map((file, i) => {
      const title = /^# (\d+)\. (.+)$/m.exec(readFileSync(join(folder, file), 'utf8'))
      assert.deepEqual([Number(file.slice(0, 4)), Number(title?.[1])], [i + 1, i + 1], file)
      return `- [${file.slice(0, 4)}](${file}) ${title?.[2]}`
    })
  assert.deepEqual(
    list.split('\n').filter((line) => line.startsWith('- ')),
    expected,
  )
})
