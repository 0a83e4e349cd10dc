import assert from 'node:assert/strict'
import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs'
import { RegainError, throwIfInterrupted } from '../../src/errors.ts'
import { validateEntryPath } from '../../src/filesystem/entry-path.ts'
import { dataExtents, mayHaveHoles } from '../../src/filesystem/extents.ts'
import { close, errorCode } from '../../src/filesystem/libc.ts'
import { openForReading } from '../../src/filesystem/reading.ts'
import { TargetTree } from '../../src/filesystem/target.ts'
import { comparePaths, type Entry, type Missed, type Point } from '../../src/model.ts'
import type {
  BasePoint,
  ContentStream,
  MaterializeOptions,
  PointReader,
  PointWriter,
  RestoreSummary,
  SourceSummary,
  WantsPaths,
} from '../../src/sources/contract.ts'

/**
 * A point in memory: what a source driver needs of the engine, and nothing of its storage. The writer holds the driver
 * to the contract: it fails the test at the first entry out of order, twice, below no folder, or handed over while
 * another is still being taken.
 */
export class RecordedPoint {
  readonly point: Point
  readonly entries: Entry[]
  /** By path: the bytes of the data ranges, end to end. */
  readonly content: Map<string, Buffer>

  constructor(point: Point, entries: Entry[], content: Map<string, Buffer>) {
    this.point = point
    this.entries = entries
    this.content = content
  }

  asBase(): BasePoint {
    const { entries } = this
    return {
      point: this.point,
      async *entries() {
        yield* entries.map((entry) => ({ ...entry }))
      },
      async *leaves() {
        // Short ones, so that their ends are met.
        for (let at = 0; at < entries.length; at += 3) yield entries.slice(at, at + 3).map((entry) => ({ ...entry }))
      },
      content: (entry) => new RecordedReader(this).content(entry),
    }
  }

  reader(): PointReader {
    return new RecordedReader(this)
  }
}

export interface WriterOptions {
  base?: RecordedPoint | null
  /** RFC 3339: when the point was started. Default: now. */
  startedAt?: string
  /** As Source.unordered. */
  unordered?: boolean
  signal?: AbortSignal
  /** Runs before each file is read: where a test changes the source at that very moment. */
  onRead?(entry: Entry): void
  /** False: addUnchanged says that content can't be used again. */
  reusable?: boolean
}

export class RecordingWriter implements PointWriter {
  readonly base: BasePoint | null
  readonly entries: Entry[] = []
  readonly content = new Map<string, Buffer>()
  /** Paths by the way they came. */
  readonly read: string[] = []
  readonly unchanged: string[] = []
  readonly missed: Missed[] = []
  readonly startedAt: string
  readonly #options: WriterOptions
  readonly #folders = new Set<string>()
  #busy = false
  #pending: (() => void)[] = []

  constructor(options: WriterOptions = {}) {
    this.#options = options
    this.base = options.base?.asBase() ?? null
    this.startedAt = options.startedAt ?? new Date().toISOString()
  }

  add(entry: Entry): Promise<void> {
    return this.#take(entry, () => {
      assert.ok(entry.type !== 'file' || entry.hardLink !== undefined || entry.size === 0, `${entry.path} has content`)
    })
  }

  /** Nothing can be reused: the file is needed whole. */
  async addPatched(): Promise<null> {
    return null
  }
  async isPatchable(): Promise<boolean> {
    return false
  }

  /** Reads later, in allRead or finish, as the engine does: a driver must not count on the file having been read. */
  addFile(
    entry: Entry,
    path: Buffer,
    missed: (missed: Missed) => void,
    _options?: { sameInode?: boolean },
  ): Promise<void> {
    return this.#take(entry, () => {
      assert.equal(entry.type, 'file')
      this.read.push(entry.path)
      this.#pending.push(() => this.#readFile(entry, path, missed))
    })
  }

  async addStream(entry: Entry): Promise<ContentStream> {
    const pieces: Buffer[] = []
    await this.#take(entry, () => assert.equal(entry.type, 'file'))
    let open = true
    return {
      write: async (bytes) => {
        assert.ok(open, 'written after its end')
        throwIfInterrupted(this.#options.signal)
        pieces.push(Buffer.from(bytes))
      },
      end: async () => {
        open = false
        const bytes = Buffer.concat(pieces)
        entry.size ??= bytes.length
        assert.equal(bytes.length, entry.size, `${entry.path} has another length than said`)
        this.read.push(entry.path)
        this.content.set(entry.path, bytes)
      },
    }
  }

  async addUnchanged(entry: Entry, from: Entry): Promise<boolean> {
    if (this.#options.reusable === false) return false
    const content = this.#options.base?.content.get(from.path)
    assert.ok(content !== undefined, `${from.path} is no entry of the base with content`)
    await this.#take(entry, () => {
      this.unchanged.push(entry.path)
      this.content.set(entry.path, content)
      if (from.extents !== undefined) entry.extents = from.extents
    })
    return true
  }

  expectContent(): void {}

  async allRead(): Promise<void> {
    const pending = this.#pending
    this.#pending = []
    for (const read of pending) read()
  }

  /** What the engine's commit would make of it. */
  async finish(summary: SourceSummary, sourceType: string): Promise<RecordedPoint> {
    await this.allRead()
    const missed = [...summary.missed, ...this.missed]
    assert.deepEqual(JSON.parse(JSON.stringify(summary.positions)), summary.positions)
    const entries = this.entries.sort((a, b) => comparePaths(a.path, b.path))
    const bytes = [...this.content.values()].reduce((sum, content) => sum + content.length, 0)
    const point: Point = {
      id: '00112233445566778899aabbccddeeff',
      service: 'test',
      source: 'test',
      sourceType,
      kind: summary.kind,
      startedAt: this.startedAt,
      committedAt: new Date().toISOString(),
      complete: missed.length === 0,
      missed,
      missedCount: missed.length,
      root: summary.root,
      positions: summary.positions,
      entries: entries.length,
      bytes: { source: summary.sourceBytes, read: bytes, new: bytes, stored: bytes },
      listing: '00'.repeat(32),
      tool: 'test',
      ...(summary.fingerprint === undefined ? {} : { fingerprint: summary.fingerprint }),
    }
    return new RecordedPoint(point, entries, this.content)
  }

  async #take(entry: Entry, check: () => void): Promise<void> {
    throwIfInterrupted(this.#options.signal)
    assert.equal(this.#busy, false, `${entry.path} came while another entry was being taken`)
    this.#busy = true
    validateEntryPath(entry.path)
    check()
    this.#checkPlace(entry)
    this.entries.push(entry)
    if (entry.type === 'directory') this.#folders.add(entry.path)
    // As the engine while its queues are full: the caller is held back.
    await new Promise((resolve) => setImmediate(resolve))
    this.#busy = false
  }

  #checkPlace({ path }: Entry): void {
    const last = this.entries.at(-1)
    if (this.#options.unordered === true) return
    if (last === undefined) {
      assert.equal(path, '', 'the first entry is the root')
      return
    }
    assert.ok(comparePaths(last.path, path) < 0, `${path} came after ${last.path}`)
    const parent = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : ''
    assert.ok(this.#folders.has(parent), `${path} came before its folder`)
  }

  #readFile(entry: Entry, path: Buffer, tell: (missed: Missed) => void): void {
    this.#options.onRead?.(entry)
    try {
      const { fd } = openForReading(path)
      try {
        const { size, blocks } = fstatSync(fd)
        const extents = mayHaveHoles({ size, blocks }) ? dataExtents(fd, size) : null
        if (extents !== null) entry.extents = extents
        entry.size = size
        this.content.set(entry.path, readRanges(fd, extents ?? [[0, size]]))
      } finally {
        close(fd)
      }
    } catch (error) {
      const code = errorCode(error)
      if (code === '') throw error
      const missed: Missed = { path: entry.path, reason: code === 'ENOENT' ? 'vanished' : 'unreadable', detail: code }
      this.missed.push(missed)
      this.entries.splice(this.entries.indexOf(entry), 1)
      tell(missed)
    }
  }
}

function readRanges(fd: number, ranges: [number, number][]): Buffer {
  return Buffer.concat(
    ranges.map(([offset, length]) => {
      const buffer = Buffer.alloc(length)
      let done = 0
      while (done < length) {
        const got = readSync(fd, buffer, done, length - done, offset + done)
        assert.ok(got > 0, 'the file was cut short while it was read')
        done += got
      }
      return buffer
    }),
  )
}

class RecordedReader implements PointReader {
  readonly point: Point
  readonly #recorded: RecordedPoint

  constructor(recorded: RecordedPoint) {
    this.point = recorded.point
    this.#recorded = recorded
  }

  async *entries(wants?: WantsPaths): AsyncIterableIterator<Entry> {
    yield* this.#wanted(wants).map((entry) => ({ ...entry }))
  }

  /** As strict as a reader may be: each entry stands for a part of the listing. */
  #wanted(wants: WantsPaths = () => true): Entry[] {
    const { entries } = this.#recorded
    return entries.filter(({ path }, i) => wants(path, entries[i + 1]?.path ?? null))
  }

  async readFile(path: string): Promise<Buffer> {
    const entry = this.#recorded.entries.find((one) => one.path === path)
    if (entry?.type !== 'file') throw new RegainError('repository-damaged', `There is no file ${path}.`)
    const content = this.#recorded.content.get(entry.hardLink ?? path) ?? Buffer.alloc(0)
    const whole = Buffer.alloc(entry.size ?? 0)
    let at = 0
    for (const [offset, length] of entry.extents ?? [[0, content.length]]) {
      content.copy(whole, offset, at, at + length)
      at += length
    }
    return whole
  }

  async *content(entry: Entry): AsyncIterableIterator<Buffer> {
    yield await this.readFile(entry.path)
  }

  async *contents(
    entries: AsyncIterable<Entry>,
    wants: (entry: Entry) => boolean,
  ): ReturnType<PointReader['contents']> {
    for await (const entry of entries) {
      if (wants(entry)) yield { entry, bytes: await this.readFile(entry.path) }
      yield { entry, bytes: null }
    }
  }

  async materialize(directory: string, options: MaterializeOptions): Promise<RestoreSummary> {
    const tree = TargetTree.open({ directory, places: [] })
    const missed: Missed[] = []
    const ownership = options.ownership ?? process.geteuid?.() === 0
    const folders: Entry[] = []
    const summary: RestoreSummary = { bytes: 0, files: 0, missed }
    const miss = (entry: Entry, detail: string | null): void => {
      if (detail !== null) missed.push({ path: entry.path, reason: 'unsupported', detail })
    }
    try {
      for (const entry of this.#wanted(options.wants)) {
        throwIfInterrupted(options.signal)
        if (options.select !== undefined && !options.select(entry)) continue
        if (entry.type === 'directory') {
          tree.makeDirectory(entry.path)
          folders.push(entry)
        } else if (entry.hardLink !== undefined) {
          miss(entry, tree.createHardLink(entry)?.detail ?? null)
        } else if (entry.type === 'file') {
          summary.bytes += this.#writeFile(tree, entry, (detail) => miss(entry, detail), ownership)
          summary.files += 1
        } else {
          const reason = tree.createOther(entry)
          miss(entry, reason)
          if (reason === null) for (const detail of tree.setAttributes(entry, { ownership })) miss(entry, detail)
        }
      }
      tree.syncFilesystem()
      for (const entry of folders.reverse()) {
        for (const detail of tree.setAttributes(entry, { ownership })) miss(entry, detail)
      }
      return summary
    } finally {
      tree.close()
    }
  }

  #writeFile(tree: TargetTree, entry: Entry, miss: (detail: string) => void, ownership: boolean): number {
    const content = this.#recorded.content.get(entry.path) ?? Buffer.alloc(0)
    const fd = tree.createFile(entry.path)
    try {
      let at = 0
      for (const [offset, length] of entry.extents ?? [[0, content.length]]) {
        for (let done = 0; done < length; ) {
          done += writeSync(fd, content, at + done, length - done, offset + done)
        }
        at += length
      }
      if (entry.extents !== undefined) ftruncateSync(fd, entry.size)
      for (const detail of tree.setAttributes(entry, { ownership }, fd)) miss(detail)
      return content.length
    } finally {
      tree.closeFile(fd)
    }
  }
}
