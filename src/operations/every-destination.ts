import type { LogListing, LogMeta, LogStore } from '../sources/contract.ts'

/**
 * One log kept at several destinations, as if they were one: a piece is durable when it is durable at all of them, and
 * there is what all of them have. So a follower holds back what it lets the source forget until every destination has
 * it, and after a destination was away it goes on from where that one stopped.
 */
export class EveryDestination implements LogStore {
  readonly #logs: readonly LogStore[]

  /** At least one. */
  constructor(logs: readonly LogStore[]) {
    this.#logs = logs
  }

  async putSegment(branch: string, name: string, bytes: Buffer, meta: LogMeta): Promise<void> {
    await this.#each((log) => log.putSegment(branch, name, bytes, meta))
  }

  async putTail(branch: string, name: string, offset: number, bytes: Buffer, meta: LogMeta): Promise<void> {
    await this.#each((log) => log.putTail(branch, name, offset, bytes, meta))
  }

  async dropTails(branch: string, name: string): Promise<void> {
    await this.#each((log) => log.dropTails(branch, name))
  }

  async putHistory(name: string, bytes: Buffer): Promise<void> {
    await this.#each((log) => log.putHistory(name, bytes))
  }

  async list(): Promise<LogListing> {
    const listings = await this.#each((log) => log.list())
    const [first = { segments: [], tails: [], histories: [] }, ...others] = listings
    const segments = first.segments.filter((segment) => others.every((other) => hasSegment(other, segment)))
    return {
      segments,
      tails: commonTails(first, others),
      histories: first.histories.filter((name) => others.every((other) => other.histories.includes(name))),
    }
  }

  async holds(branch: string, name: string): Promise<boolean> {
    return (await this.#each((log) => log.holds(branch, name))).every(Boolean)
  }

  /** The piece as the destination with the least of it has it. */
  async read(branch: string, name: string): Promise<{ bytes: Buffer; whole: boolean; meta: LogMeta } | null> {
    let shortest: { bytes: Buffer; whole: boolean; meta: LogMeta } | null = null
    for (const log of this.#logs) {
      const piece = await log.read(branch, name)
      if (piece === null) return null
      if (shortest === null || (shortest.whole && !piece.whole) || piece.bytes.length < shortest.bytes.length) {
        shortest = piece
      }
    }
    return shortest
  }

  /** The earliest of them: how far all have it. */
  async readUntil(pieces: readonly { branch: string; name: string }[]): Promise<(string | null)[]> {
    const untils = await this.#each((log) => log.readUntil(pieces))
    return pieces.map((_, i) => untils.map((until) => until[i] ?? null).reduce(earlier))
  }

  async readHistory(name: string): Promise<Buffer | null> {
    for (const log of this.#logs) {
      const bytes = await log.readHistory(name)
      if (bytes !== null) return bytes
    }
    return null
  }

  /** All of them, also when one fails: the others are not left half done, and its error is then the outcome. */
  async #each<T>(call: (log: LogStore) => Promise<T>): Promise<T[]> {
    const outcomes = await Promise.allSettled(this.#logs.map(call))
    return outcomes.map((outcome) => {
      if (outcome.status === 'rejected') throw outcome.reason
      return outcome.value
    })
  }
}

function earlier(a: string | null, b: string | null): string | null {
  if (a === null || b === null) return null
  return Date.parse(a) <= Date.parse(b) ? a : b
}

function hasSegment(listing: LogListing, segment: { branch: string; name: string }): boolean {
  return listing.segments.some(({ branch, name }) => branch === segment.branch && name === segment.name)
}

/** A segment that is whole at some and a tail at others is a tail here. */
function commonTails(first: LogListing, others: readonly LogListing[]): LogListing['tails'] {
  const all = [first, ...others]
  const known = new Map(all.flatMap(({ tails }) => tails).map((tail) => [`${tail.branch}/${tail.name}`, tail]))
  return [...known.values()].flatMap((tail) => {
    const lengths = all.map((listing) => (hasSegment(listing, tail) ? Infinity : tailLength(listing, tail)))
    const available = Math.min(...lengths)
    return available > 0 && available < Infinity ? [{ ...tail, available }] : []
  })
}

function tailLength(listing: LogListing, { branch, name }: { branch: string; name: string }): number {
  return listing.tails.find((tail) => tail.branch === branch && tail.name === name)?.available ?? 0
}
