import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

const DOCS = join(import.meta.dirname, '../../docs')

/** A link to a test file and the names that follow it: [kill](../test/x.test.ts): "one", "two". */
const REFERENCE = /\[[^\]]+\]\((\.\.\/[^)]+\.test\.ts)\): ((?:"[^"]+"(?:, )?)+)/g

test('every test that docs/fault-matrix.md names is there under that name', () => {
  const page = readFileSync(join(DOCS, 'fault-matrix.md'), 'utf8')
  const links = page.match(/\.test\.ts\)/g) ?? []
  const references = [...page.matchAll(REFERENCE)]
  assert.ok(links.length > 50)
  assert.equal(references.length, links.length, 'a link without the name of a test')
  for (const [, file, names] of references as unknown as [string, string, string][]) {
    const source = readFileSync(join(DOCS, file), 'utf8')
    for (const [, name] of names.matchAll(/"([^"]+)"/g) as unknown as [string, string][])
      assert.ok(source.includes(name), `${file} has no test named "${name}"`)
  }
})
