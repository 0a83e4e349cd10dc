import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Entry, Point } from '../../model.ts'
import { BaseEntries } from './base-entries.ts'

const STARTED_MS = Date.parse('2026-01-02T03:04:05.000Z')
const STARTED_NS = BigInt(STARTED_MS) * 1_000_000n

function base(entries: Entry[] = [], onEnd: () => void = () => undefined): BaseEntries {
  const point = { startedAt: new Date(STARTED_MS).toISOString() } as Point
  const listing = {
    point,
    entries: () => assert.fail('it is read by leaves'),
    async *leaves() {
      try {
        for (let at = 0; at < entries.length; at += 2) yield entries.slice(at, at + 2)
      } finally {
        onEnd()
      }
    },
    content: () => assert.fail('only the listing is read'),
  }
  return new BaseEntries(listing, () => undefined)
}

function file(path: string, more: Partial<Entry> = {}): Entry {
  const times = { mtime: '1700000000000000001', ctime: '1700000000000000002' }
  return { path, type: 'file', mode: 0o644, uid: 0, gid: 0, size: 5, inode: '42', device: '8', ...times, ...more }
}

const differences: { name: string; was?: Partial<Entry>; now?: Partial<Entry>; unchanged: boolean }[] = [
  { name: 'nothing', unchanged: true },
  { name: 'the device, as after a reboot', now: { device: '9' }, unchanged: true },
  { name: 'mode and owner', now: { mode: 0o600, uid: 7, gid: 7 }, unchanged: true },
  { name: 'the size', now: { size: 6 }, unchanged: false },
  { name: 'the inode', now: { inode: '43' }, unchanged: false },
  { name: 'the modification time', now: { mtime: '1700000000000000003' }, unchanged: false },
  { name: 'the change time', now: { ctime: '1700000000000000003' }, unchanged: false },
  { name: 'the type', was: { type: 'symlink' }, unchanged: false },
  { name: 'no change time', was: { ctime: undefined }, now: { ctime: undefined }, unchanged: false },
  { name: 'no inode', was: { inode: undefined }, now: { inode: undefined }, unchanged: false },
  { name: 'damage', was: { damaged: 'it changed' }, unchanged: false },
  { name: 'being a hard link before', was: { hardLink: 'a' }, unchanged: false },
]

for (const { name, was, now, unchanged } of differences) {
  test(`a file that differs in ${name} is ${unchanged ? '' : 'not '}the one of the previous point`, () => {
    assert.equal(base().isUnchanged(file('f', now), file('f', was)), unchanged)
  })
}

test('a change just before the previous point began is not trusted, and sooner on coarse clocks', () => {
  const trusted = (ctime: bigint) =>
    base().isUnchanged(file('f', { ctime: `${ctime}` }), file('f', { ctime: `${ctime}` }))
  assert.equal(trusted(STARTED_NS - 30_000_001n), true)
  assert.equal(trusted(STARTED_NS - 10_000_001n), false)
  assert.equal(trusted(STARTED_NS + 1n), false)
  assert.equal(trusted(STARTED_NS - 1_000_000_000n), false)
  assert.equal(trusted(STARTED_NS - 3_000_000_000n), true)
})

test('paths are found in one pass, whatever lies between them', async () => {
  let ended = 0
  const names = ['', 'a', 'a/x', 'a-b', 'c', 'd']
  const entries = base(
    names.map((name) => file(name)),
    () => {
      ended += 1
    },
  )
  const found = async (path: string) => {
    await entries.advance(path)
    return entries.find(path)?.path
  }
  assert.deepEqual(
    [await found('a'), await found('a'), await found('a/w'), await found('a/x'), await found('b'), await found('c')],
    ['a', 'a', undefined, 'a/x', undefined, 'c'],
  )
  await entries.close()
  assert.equal(ended, 1, 'the listing was given back before its end')
  assert.equal(await found('d'), undefined)
})
