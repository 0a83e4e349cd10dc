export type TransactionState = 'committed' | 'aborted' | 'unknown'

const STATES = { 1: 'committed', 2: 'aborted' } as const

/**
 * What a point's pg_xact says of transactions: two bits each, in files of 32 pages named by four hex digits
 * (src/backend/access/transam/clog.c, slru.c). It is as fresh as the moment its page was copied; `unknown` may have
 * ended since.
 */
export class CommitLog {
  readonly #read: (path: string) => Promise<Buffer | null>
  readonly #pageBytes: number
  readonly #files = new Map<number, Buffer>()

  constructor(read: (path: string) => Promise<Buffer | null>, pageBytes: number) {
    this.#read = read
    this.#pageBytes = pageBytes
  }

  /** To be called before `state` is asked for a transaction. */
  async prepare(xid: number): Promise<void> {
    const number = this.#file(xid)
    if (this.#files.has(number)) return
    const name = number.toString(16).toUpperCase().padStart(4, '0')
    this.#files.set(number, (await this.#read(`pg_xact/${name}`)) ?? Buffer.alloc(0))
  }

  state(xid: number): TransactionState {
    const bytes = this.#files.get(this.#file(xid))
    const inFile = xid % this.#transactionsPerFile
    const byte = bytes?.[Math.floor(inFile / 4)] ?? 0
    return STATES[((byte >>> ((inFile % 4) * 2)) & 3) as 1 | 2] ?? 'unknown'
  }

  get #transactionsPerFile(): number {
    return this.#pageBytes * 4 * 32
  }

  #file(xid: number): number {
    return Math.floor(xid / this.#transactionsPerFile)
  }
}
