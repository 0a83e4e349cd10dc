import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isRegainError } from '../errors.ts'
import { makeStage } from './stage.ts'

const scratch = mkdtempSync(join(tmpdir(), 'regain-stage-'))
chmodSync(scratch, 0o755)
after(() => rmSync(scratch, { recursive: true, force: true }))

test('what was put up is put away last thing first, each once, whatever fails; then the directory goes', async () => {
  const stage = await makeStage(undefined, 20, false, [])
  const done: string[] = []
  const act = (name: string) => async () => {
    done.push(name)
  }
  stage.later('first', act('first'))
  const now = stage.later('second', act('second'))
  stage.later('third', async () => {
    throw new Error('stuck')
  })
  writeFileSync(join(stage.directory, 'file'), 'content')
  await now()
  assert.deepEqual(await stage.strike(), ['third: stuck'])
  assert.deepEqual(done, ['second', 'first'])
  assert.ok(!existsSync(stage.directory))
  assert.deepEqual(await stage.strike(), [])
})

test('a directory that was given stays, with the report in it', async () => {
  const directory = join(scratch, 'given')
  const stage = await makeStage(directory, 20, false, ['report.json'])
  for (const name of ['report.json', 'other']) writeFileSync(join(directory, name), '')
  mkdirSync(join(directory, 'folder'))
  await stage.strike()
  assert.deepEqual(readdirSync(directory), ['report.json'])
})

test('a directory that holds something is refused and left as it is', async () => {
  const directory = join(scratch, 'full')
  mkdirSync(directory)
  writeFileSync(join(directory, 'mine'), '')
  await assert.rejects(makeStage(directory, 20, false, []), (error) => isRegainError(error, 'target-not-empty'))
  assert.deepEqual(readdirSync(directory), ['mine'])
})

test('too little room is told before anything is made', async () => {
  const directory = join(scratch, 'small')
  const huge = 1e9
  await assert.rejects(
    makeStage(directory, huge, false, []),
    (error) => isRegainError(error, 'precondition-failed') && /needs \d+ MB in .* \d+ MB are free/.test(error.message),
  )
  assert.deepEqual(readdirSync(directory), [])
})

test('a place that the user of the database cannot reach is told, when there is another user', async () => {
  const locked = join(scratch, 'locked')
  mkdirSync(locked, { mode: 0o700 })
  await assert.rejects(
    makeStage(join(locked, 'stage'), 20, true, []),
    (error) => isRegainError(error, 'precondition-failed') && error.message.includes(`may not enter ${locked}.`),
  )
  await (await makeStage(join(locked, 'stage'), 20, false, [])).strike()
})
