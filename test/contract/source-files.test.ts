import assert from 'node:assert/strict'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Ambient } from '../../src/model.ts'
import { createFilesSource } from '../../src/sources/files/source.ts'
import { describeTree, diffTrees, removeTree } from '../support/describe-tree.ts'
import { makeOddities } from '../support/oddities.ts'
import { sourceContract } from './source.ts'

const ambient: Ambient = { now: () => 0, randomBytes: (size) => Buffer.alloc(size), log: () => undefined }

sourceContract('files', async () => {
  const parent = mkdtempSync(join(tmpdir(), 'regain-files-'))
  const root = join(parent, 'root')
  await makeOddities(root, { deep: true, many: 50 })
  if (process.geteuid?.() !== 0) makeReadable(root)
  return {
    source: createFilesSource({ paths: [root], exclude: [] }, ambient),
    change: async () => {
      appendFileSync(join(root, 'sizes/noise-4096'), 'more')
      writeFileSync(join(root, 'sizes/new'), 'new')
      rmSync(join(root, 'many/17'))
      renameSync(join(root, 'many/18'), join(root, 'many/eighteen'))
      mkdirSync(join(root, 'sizes/new folder'))
      chmodSync(join(root, 'sizes/zeros'), 0o600)
    },
    assertSame: async (directory) => {
      const diff = diffTrees(await describeTree(root), await describeTree(directory))
      assert.deepEqual(diff.slice(0, 20), [], `${diff.length} lines differ`)
    },
    absent: async () => createFilesSource({ paths: [join(parent, 'nothing')], exclude: [] }, ambient),
    refuses: [
      { kind: 'lsn', lsn: '0/1' },
      { kind: 'xid', xid: '7' },
      { kind: 'name', name: 'x' },
    ],
    dispose: async () => removeTree(parent),
  }
})

/** What an ordinary user's own backup cannot hold is tested in src/sources/files/source.test.ts. */
function makeReadable(root: string): void {
  chmodSync(join(root, 'modes/unreadable'), 0o600)
  // Their owner, the user itself, may not read what these modes say; none are there otherwise.
  assert.ok(!existsSync(join(root, 'root')))
}
