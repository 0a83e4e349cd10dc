import type { EntryPath, Missed } from '../../model.ts'
import type { Walked } from './walk.ts'

/** What an entry is among the names of its inode. */
export interface Membership {
  /** The first name, which has the content; null for the first itself and for an inode of one name. */
  hardLink: EntryPath | null
  /** To be called if the content under this entry's name could not be read after all. */
  lose(): void
}

interface Group {
  first: EntryPath
  /** Names not met yet. */
  left: number
  others: EntryPath[]
  lost: boolean
}

const ALONE: Membership = { hardLink: null, lose: () => undefined }

/**
 * Which entries are names of one inode. Memory holds only the inodes of several names whose names have not all been met,
 * and through `lose` those that the writer still has to read.
 */
export class HardLinks {
  readonly #groups = new Map<string, Group>()
  readonly #lost: Group[] = []

  join({ entry, links }: Walked): Membership {
    if (links <= 1 || entry.type === 'directory') return ALONE
    const key = `${entry.device}:${entry.inode}`
    const known = this.#groups.get(key)
    // What could not be read under its first name is tried again under this one: that name's going may have been why.
    if (known === undefined || known.lost) {
      const group: Group = { first: entry.path, left: links - 1, others: [], lost: false }
      this.#groups.set(key, group)
      return { hardLink: null, lose: () => this.#lose(group) }
    }
    known.others.push(entry.path)
    known.left -= 1
    if (known.left === 0) this.#groups.delete(key)
    return { hardLink: known.first, lose: ALONE.lose }
  }

  /** Entries that were handed over as links to a name whose content then was lost: they have none either. */
  orphans(): Missed[] {
    return this.#lost.flatMap((group) =>
      group.others.map((path): Missed => {
        return { path, reason: 'unreadable', detail: `It is a hard link to ${group.first}, which could not be read.` }
      }),
    )
  }

  #lose(group: Group): void {
    if (group.lost) return
    group.lost = true
    this.#lost.push(group)
  }
}
