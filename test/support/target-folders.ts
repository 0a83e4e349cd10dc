import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TargetTree } from '../../src/filesystem/target.ts'
import type { Entry, EntryType } from '../../src/model.ts'

/** What tests of a restore's target share: a fresh directory for each, and one beside it that nothing may reach. */
export class TargetFolders {
  readonly base = fs.mkdtempSync(join(tmpdir(), 'regain-target-'))
  #count = 0

  next(): { directory: string; outside: string } {
    this.#count += 1
    const directory = join(this.base, `target-${this.#count}`)
    const outside = join(this.base, `outside-${this.#count}`)
    fs.mkdirSync(directory)
    fs.mkdirSync(outside)
    return { directory, outside }
  }

  remove(): void {
    fs.rmSync(this.base, { recursive: true })
  }
}

/** Of the user who runs the test, unless `more` says otherwise. */
export function entry(path: string, type: EntryType, more: Partial<Entry> = {}): Entry {
  return { path, type, mode: 0o644, uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, mtime: '0', ...more }
}

export function inTree(
  directory: string,
  act: (tree: TargetTree) => void,
  options: Parameters<typeof TargetTree.open>[1] = {},
): void {
  const tree = TargetTree.open({ directory, places: [] }, options)
  try {
    act(tree)
  } finally {
    tree.close()
  }
}

export function writeFile(tree: TargetTree, path: string, text: string): void {
  const fd = tree.createFile(path)
  fs.writeSync(fd, text)
  tree.closeFile(fd)
}
