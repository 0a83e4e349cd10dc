import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { isRegainError } from '../errors.ts'
import { CLAIM_NAME, claimTarget, giveUpClaim, requireEmptyTarget } from './target-claim.ts'

let parent: string
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'regain-claim-'))
})
afterEach(() => rmSync(parent, { recursive: true }))

const notEmpty = (error: unknown): boolean => isRegainError(error, 'target-not-empty')

test('one claim succeeds, and the next is refused and changes nothing', () => {
  const target = join(parent, 'deep/target')
  assert.equal(claimTarget(target).made, true)
  assert.equal(statSync(target).mode & 0o777, 0o700)
  assert.throws(() => claimTarget(target), notEmpty)
  assert.deepEqual(readdirSync(target), [CLAIM_NAME])
  requireEmptyTarget(target)
})

test('what holds anything is neither claimed nor touched', () => {
  writeFileSync(join(parent, 'mine'), '')
  const { mtimeNs } = statSync(parent, { bigint: true })
  assert.throws(() => claimTarget(parent), notEmpty)
  assert.throws(() => requireEmptyTarget(parent), notEmpty)
  assert.deepEqual([readdirSync(parent), statSync(parent, { bigint: true }).mtimeNs], [['mine'], mtimeNs])
  assert.throws(() => claimTarget(join(parent, 'mine')), notEmpty)
  assert.throws(() => claimTarget(join(parent, 'mine/below')), notEmpty)
})

test('a claim of which nothing came is taken back, with the directory if that was not there', () => {
  const target = join(parent, 'target')
  giveUpClaim(target, claimTarget(target))
  assert.equal(existsSync(target), false)
  mkdirSync(target)
  giveUpClaim(target, claimTarget(target))
  assert.deepEqual(readdirSync(target), [])
  const claim = claimTarget(target)
  writeFileSync(join(target, 'restored'), '')
  giveUpClaim(target, claim)
  assert.deepEqual(readdirSync(target).sort(), [CLAIM_NAME, 'restored'])
  rmSync(target, { recursive: true })
  giveUpClaim(target, claim)
  assert.equal(existsSync(target), false)
})
