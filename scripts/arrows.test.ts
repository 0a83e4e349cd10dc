import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findViolations } from './arrows.ts'

function problems(file: string, text: string): string[] {
  return findViolations(new Map([[file, text]])).map(({ line, message }) => `${line}: ${message}`)
}

test('an import along an arrow passes', () => {
  assert.deepEqual(problems('src/operations/backup.ts', "import { x } from '../repository/repository.ts'"), [])
  assert.deepEqual(problems('src/operations/backup.ts', "import { x } from './targets.ts'"), [])
  assert.deepEqual(
    problems('src/storage/local.ts', "import { x } from 'node:fs'\nimport type { y } from '../model.ts'"),
    [],
  )
  assert.deepEqual(problems('src/main.ts', "const { x } = await import('./storage/local.ts')\nDate.now()"), [])
})

test('an import against an arrow is refused, however it is written', () => {
  const refused = ['1: src/operations/ may not import src/storage/local.ts']
  assert.deepEqual(problems('src/operations/backup.ts', "import { x } from '../storage/local.ts'"), refused)
  assert.deepEqual(problems('src/operations/backup.ts', "import type { x } from '../storage/local.ts'"), refused)
  assert.deepEqual(problems('src/operations/backup.ts', "await import('../storage/local.ts')"), refused)
  assert.deepEqual(problems('src/operations/backup.ts', "export * from '../storage/local.ts'"), refused)
  assert.deepEqual(problems('src/operations/backup.ts', "import '../storage/local.ts'"), refused)
  assert.deepEqual(problems('src/operations/a.ts', "import {\n  x,\n} from '../repository/pack-store.ts'"), [
    '1: src/operations/ may not import src/repository/pack-store.ts',
  ])
})

test('seams see neither the engine nor each other', () => {
  assert.notDeepEqual(problems('src/storage/s3.ts', "import { x } from '../repository/api.ts'"), [])
  assert.notDeepEqual(problems('src/sources/postgres/a.ts', "import { x } from '../files/walk.ts'"), [])
  assert.notDeepEqual(problems('src/keys/vault.ts', "import { x } from '../storage/contract.ts'"), [])
  assert.notDeepEqual(problems('src/repository/a.ts', "import { x } from '../sources/contract.ts'"), [])
})

test('policy imports nothing, not even from Node', () => {
  assert.deepEqual(problems('src/policy/a.ts', "import { x } from 'node:fs'"), [
    '1: src/policy/ may not import node:fs',
  ])
  assert.notDeepEqual(problems('src/policy/a.ts', "import { x } from '../errors.ts'"), [])
})

test("a vendor's package is imported only inside its driver", () => {
  assert.deepEqual(problems('src/sources/postgres/a.ts', "import pg from 'pg'"), [])
  assert.deepEqual(problems('src/operations/a.ts', "import pg from 'pg'"), [
    '1: src/operations/ may not import the package pg',
  ])
  assert.deepEqual(problems('src/cli/a.ts', "import { x } from '@aws/sdk/client'"), [
    '1: src/cli/ may not import the package @aws/sdk',
  ])
})

test('the clock, randomness and the environment are read at the composition root alone', () => {
  const lines = [
    'const a = Date.now()',
    'const b = new Date()',
    'const c = Math.random()',
    'const d = process.env.HOME',
  ]
  assert.equal(problems('src/operations/a.ts', lines.join('\n')).length, 4)
  assert.equal(problems('src/operations/a.ts', "import { randomBytes } from 'node:crypto'").length, 1)
  assert.deepEqual(problems('src/operations/a.ts', 'const b = new Date(ms)'), [])
})

test('comments are no code, and text that looks like a comment is', () => {
  assert.deepEqual(problems('src/operations/a.ts', "// import { x } from '../storage/local.ts'\n/* Date.now() */"), [])
  assert.deepEqual(problems('src/operations/a.ts', "const a = 'http://x'; Date.now()").length, 1)
})

test('a folder without a rule is refused', () => {
  assert.equal(problems('src/web/a.ts', '').length, 1)
})
