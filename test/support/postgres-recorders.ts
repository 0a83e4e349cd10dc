import { lchown, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RegainError } from '../../src/errors.ts'
import { type Ambient, comparePaths, type Entry, type Point } from '../../src/model.ts'
import type {
  ContentStream,
  LogListing,
  LogMeta,
  LogStore,
  PointReader,
  PointWriter,
  RestoreSummary,
  SourceOptions,
} from '../../src/sources/contract.ts'

/** A point in memory: enough of the engine's promises to test a source's driver without the engine. */
export class MemoryPoint implements PointWriter {
  readonly base = null
  readonly entries: { entry: Entry; content: Buffer; chunking: string | null }[] = []
  /** Called before each piece of content is taken: a slow or failing store. */
  onWrite: () => Promise<void> = () => Promise.resolve()

  async add(entry: Entry): Promise<void> {
    this.#accept(entry, Buffer.alloc(0), null)
  }

  async addFile(): Promise<void> {
    throw new Error('a database is not read from files')
  }

  async addStream(entry: Entry, chunking: 'pages' | 'content'): Promise<ContentStream> {
    const pieces: Buffer[] = []
    return {
      write: async (bytes) => {
        await this.onWrite()
        pieces.push(Buffer.from(bytes))
      },
      end: async () => {
        const content = Buffer.concat(pieces)
        if (content.length !== entry.size)
          throw new Error(`${entry.path}: ${content.length} bytes instead of ${entry.size}`)
        this.#accept(entry, content, chunking)
      },
    }
  }

  async addUnchanged(): Promise<boolean> {
    return false
  }

  /** Nothing can be reused: the file is needed whole. */
  async addPatched(): Promise<null> {
    return null
  }
  async isPatchable(): Promise<boolean> {
    return false
  }

  expectContent(): void {}

  async allRead(): Promise<void> {}

  find(path: string): { entry: Entry; content: Buffer; chunking: string | null } | undefined {
    return this.entries.find(({ entry }) => entry.path === path)
  }

  paths(): string[] {
    return this.entries.map(({ entry }) => entry.path)
  }

  #accept(entry: Entry, content: Buffer, chunking: string | null): void {
    if (this.find(entry.path)) throw new Error(`${entry.path} was added twice`)
    this.entries.push({ entry, content, chunking })
  }

  /** What it would be read as after a commit. */
  reader(point: Point): PointReader {
    const sorted = [...this.entries].sort((a, b) => comparePaths(a.entry.path, b.entry.path))
    return {
      point,
      async *entries() {
        for (const { entry } of sorted) yield entry
      },
      readFile: async (path) => {
        const found = this.find(path)
        if (!found) throw new RegainError('point-not-found', `no ${path}`)
        return found.content
      },
      contents: () => {
        throw new Error('not needed of this driver')
      },
      materialize: async (directory): Promise<RestoreSummary> => {
        for (const { entry, content } of sorted) {
          const path = join(directory, entry.path)
          if (entry.type === 'directory') await mkdir(path, { recursive: true, mode: entry.mode })
          else if (entry.type === 'symlink') await symlink(entry.target ?? '', path)
          else await writeFile(path, content, { mode: entry.mode })
          if (process.getuid?.() === 0) await lchown(path, entry.uid, entry.gid)
        }
        return { bytes: 0, files: sorted.length, missed: [] }
      },
    }
  }
}

/** A log store in memory, with the promises of LogStore. */
export class MemoryLog implements LogStore {
  readonly segments = new Map<string, { bytes: Buffer; meta: LogMeta }>()
  /** Segment to offset to piece: a piece takes the place of one with the same offset. */
  readonly #pieces = new Map<string, Map<number, { bytes: Buffer; meta: LogMeta }>>()
  readonly histories = new Map<string, Buffer>()
  /** Called before anything is stored. */
  onPut: (name: string) => Promise<void> = () => Promise.resolve()

  /** Of each unfinished segment the run from its beginning that the pieces give. */
  get tails(): Map<string, { bytes: Buffer; meta: LogMeta }> {
    const tails = new Map<string, { bytes: Buffer; meta: LogMeta }>()
    for (const [key, pieces] of this.#pieces) {
      let bytes = Buffer.alloc(0)
      let meta: LogMeta | null = null
      for (const [offset, piece] of [...pieces].sort(([a], [b]) => a - b)) {
        if (offset > bytes.length) break
        if (offset + piece.bytes.length <= bytes.length) continue
        bytes = Buffer.concat([bytes.subarray(0, offset), piece.bytes])
        meta = piece.meta
      }
      if (meta) tails.set(key, { bytes, meta })
    }
    return tails
  }

  async putSegment(branch: string, name: string, bytes: Buffer, meta: LogMeta): Promise<void> {
    await this.onPut(name)
    const key = `${branch}/${name}`
    const there = this.segments.get(key)
    if (there && !there.bytes.equals(bytes))
      throw new RegainError('log-conflict', `${name} is there with other content.`)
    if (!there) this.segments.set(key, { bytes: Buffer.from(bytes), meta })
  }

  async putTail(branch: string, name: string, offset: number, bytes: Buffer, meta: LogMeta): Promise<void> {
    await this.onPut(name)
    const key = `${branch}/${name}`
    const pieces = this.#pieces.get(key) ?? new Map<number, { bytes: Buffer; meta: LogMeta }>()
    pieces.set(offset, { bytes: Buffer.from(bytes), meta })
    this.#pieces.set(key, pieces)
  }

  async dropTails(branch: string, name: string): Promise<void> {
    this.#pieces.delete(`${branch}/${name}`)
  }

  async putHistory(name: string, bytes: Buffer): Promise<void> {
    await this.onPut(name)
    const there = this.histories.get(name)
    if (there && !there.equals(bytes)) throw new RegainError('log-conflict', `${name} is there with other content.`)
    this.histories.set(name, Buffer.from(bytes))
  }

  async list(): Promise<LogListing> {
    const split = (key: string): { branch: string; name: string } => ({
      branch: key.split('/')[0] ?? '',
      name: key.split('/')[1] ?? '',
    })
    return {
      segments: [...this.segments.keys()].sort().map(split),
      tails: [...this.tails].sort().map(([key, { bytes }]) => ({ ...split(key), available: bytes.length })),
      histories: [...this.histories.keys()].sort(),
    }
  }

  async holds(branch: string, name: string): Promise<boolean> {
    return this.segments.has(`${branch}/${name}`)
  }

  async read(branch: string, name: string): Promise<{ bytes: Buffer; whole: boolean; meta: LogMeta } | null> {
    const whole = this.segments.get(`${branch}/${name}`)
    if (whole) return { ...whole, whole: true }
    const tail = this.tails.get(`${branch}/${name}`)
    return tail ? { ...tail, whole: false } : null
  }

  async readUntil(pieces: readonly { branch: string; name: string }[]): Promise<(string | null)[]> {
    return Promise.all(pieces.map(async ({ branch, name }) => (await this.read(branch, name))?.meta.until ?? null))
  }

  async readHistory(name: string): Promise<Buffer | null> {
    return this.histories.get(name) ?? null
  }
}

export function testAmbient(log: (line: string) => void = () => undefined): Ambient {
  return {
    now: () => Date.now(),
    randomBytes: (size) => Buffer.from(crypto.getRandomValues(new Uint8Array(size))),
    log: (level, message) => log(`${level}: ${message}`),
  }
}

export function testOptions(signal: AbortSignal, warnings: string[] = []): SourceOptions {
  return { signal, progress: () => undefined, warn: (message) => void warnings.push(message) }
}
