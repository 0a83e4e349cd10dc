import type { Entry } from '../../model.ts'

/** An entry on its way to the listing. */
export interface Pending {
  entry: Entry
  /** 'waiting': its content is not known yet. */
  state: 'waiting' | 'ready' | 'dropped'
}

/** Entries that were given on and still take up room. */
const MAX_SPENT = 4096

/** Gives entries on in the order in which they came, each once it and all before it are ready. */
export class EntryOrder {
  private readonly giveOn: (entry: Entry) => void
  private readonly pending: Pending[] = []
  private head = 0

  constructor(giveOn: (entry: Entry) => void) {
    this.giveOn = giveOn
  }

  /** Entries that were not given on yet. */
  get size(): number {
    return this.pending.length - this.head
  }

  add(entry: Entry, state: 'waiting' | 'ready'): Pending {
    const pending: Pending = { entry, state }
    this.pending.push(pending)
    if (state === 'ready') this.advance()
    return pending
  }

  settle(pending: Pending, state: 'ready' | 'dropped'): void {
    pending.state = state
    this.advance()
  }

  private advance(): void {
    while (this.size > 0 && (this.pending[this.head] as Pending).state !== 'waiting') {
      const { entry, state } = this.pending[this.head] as Pending
      this.head++
      if (state === 'ready') this.giveOn(entry)
    }
    if (this.head <= MAX_SPENT || this.head * 2 <= this.pending.length) return
    this.pending.splice(0, this.head)
    this.head = 0
  }
}
