import { comparePaths, type Entry } from '../../model.ts'

/** One listing, read as far as the path that is asked for; paths are asked for in order. */
export class Walk {
  private readonly entries: AsyncIterator<Entry, unknown>
  private next: IteratorResult<Entry, unknown> | null = null

  constructor(entries: AsyncIterator<Entry, unknown>) {
    this.entries = entries
  }

  async at(path: string): Promise<Entry | null> {
    this.next ??= await this.entries.next()
    while (!this.next.done && comparePaths(this.next.value.path, path) < 0) this.next = await this.entries.next()
    return !this.next.done && this.next.value.path === path ? this.next.value : null
  }

  async close(): Promise<void> {
    await this.entries.return?.()
  }
}
