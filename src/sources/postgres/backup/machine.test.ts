import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkMachine } from './machine.ts'

test('a server runs on files of its own kind of machine only; to lay them out for another one is fine', () => {
  const of = (machine: string | null) => ({ machine, version: '15.18' })
  assert.equal(checkMachine(of('x86_64'), 'x64', true), null)
  assert.equal(checkMachine(of('aarch64'), 'arm64', true), null)
  assert.equal(checkMachine(of(null), 'x64', true), null)
  assert.match(checkMachine(of('aarch64'), 'x64', false) ?? '', /on aarch64, and this machine is x86_64/)
  for (const [machine, arch] of [
    ['x86_64', 'arm64'],
    ['aarch64', 'x64'],
    ['ppc64', 'x64'],
  ] as const)
    assert.throws(() => checkMachine(of(machine), arch, true), { code: 'precondition-failed' })
})
