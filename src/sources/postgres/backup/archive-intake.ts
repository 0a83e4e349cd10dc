import { bytesToPath } from '../../../filesystem/names.ts'
import type { Entry } from '../../../model.ts'
import type { PointWriter } from '../../contract.ts'
import { crc32c } from './crc32c.ts'
import { type FileSink, FileSinks, type SentInPart } from './file-sinks.ts'
import { type TarHeader, TarParser } from './tar.ts'

/** What was received of one file, to be compared with the manifest. */
export interface ReceivedFile {
  size: number
  crc: number
}

export interface IntakeOptions {
  writer: PointWriter
  /** Blocks of zeros at the end of each archive: see TarParser. */
  endBlocks: 0 | 2
  /** Called when too much waits for the writer, and when it has caught up: pauses and resumes the socket. */
  hold(): void
  release(): void
  /** The writer failed: nothing more will be taken. */
  failed(error: Error): void
  progress(bytes: number, files: number): void
  /** The archives hold changed blocks of these files. Null: everything is sent whole. */
  incremental: SentInPart | null
}

type Step =
  | { kind: 'entry'; entry: Entry }
  | { kind: 'file'; entry: Entry }
  | { kind: 'bytes'; bytes: Buffer; batch: Buffer | null }
  | { kind: 'end'; path: string }
  | { kind: 'manifest'; like: Entry; sent: Buffer }

/** Bytes that wait for the writer: above the first the socket is held, below the second it is released. */
const HOLD_BYTES = 8 * 1024 * 1024
const RELEASE_BYTES = 4 * 1024 * 1024
const BATCH_BYTES = 1024 * 1024
/** What a step without bytes counts, so that a flood of empty files is bounded as well. */
const STEP_BYTES = 1024

/**
 * Turns archives into a writer's entries. The parser runs synchronously as bytes arrive and copies content into batches
 * of 1 MiB; a single consumer hands them to the writer in order. Nothing is awaited per packet.
 */
export class ArchiveIntake {
  readonly received = new Map<string, ReceivedFile>()
  readonly #options: IntakeOptions
  #prefix = ''
  #parser: TarParser | null = null
  #steps: Step[] = []
  #waiting = 0
  #held = false
  #wake: (() => void) | null = null
  #closed = false
  #abandoned = false
  #current = ''
  /** The batch being filled: [from, cursor) is content not yet handed over. */
  #batch: Buffer = Buffer.alloc(0)
  #from = 0
  #cursor = 0
  readonly #spare: Buffer[] = []
  /** Folders of tablespaces that have an entry. */
  readonly #folders = new Set<string>()
  #first: Entry | null = null
  #bytes = 0
  #files = 0
  readonly #sinks: FileSinks

  constructor(options: IntakeOptions) {
    this.#options = options
    this.#sinks = new FileSinks(options.writer, options.incremental)
  }

  /** A new archive begins; its names go below `prefix` ('' or 'pg_tblspc/16385'). */
  beginArchive(prefix: string): void {
    this.endArchive()
    this.#prefix = prefix
    this.#parser = new TarParser(
      {
        header: (header) => this.#onHeader(header),
        content: (piece) => this.#onContent(piece),
        fileEnd: () => this.#onFileEnd(),
      },
      this.#options.endBlocks,
    )
  }

  push(piece: Buffer): void {
    if (!this.#parser) throw new Error('archive bytes before the archive')
    this.#parser.push(piece)
  }

  /** Throws if the archive was cut short. */
  endArchive(): void {
    this.#parser?.end()
    this.#parser = null
  }

  /** Hands everything to the writer until `close`. Rejects with the writer's error. */
  async drain(): Promise<void> {
    try {
      await this.#drain()
    } catch (error) {
      this.#options.failed(error instanceof Error ? error : new Error(String(error)))
      throw error
    }
  }

  /** No more archives: `drain` resolves when the writer has taken all. */
  close(): void {
    this.#closed = true
    this.#wake?.()
  }

  /** Drops what waits: `drain` resolves when the writer's current call has settled. */
  abandon(): void {
    this.#abandoned = true
    this.close()
  }

  /**
   * Stores the server's manifest, which comes outside of the archives, with the attributes of their first file. Of an
   * incremental backup it becomes that of the whole which it makes together with the one before.
   */
  addManifest(sent: Buffer): void {
    const { mode, uid, gid, mtime } = this.#first ?? { mode: 0o600, uid: 0, gid: 0, mtime: '0' }
    this.#put({ kind: 'manifest', like: { path: 'backup_manifest', type: 'file', mode, uid, gid, mtime }, sent })
  }

  /** Bytes of the cluster's files as they stand, also of those that were not sent. Known when `drain` has resolved. */
  get clusterBytes(): number {
    return this.#sinks.clusterBytes
  }

  #onHeader(header: TarHeader): void {
    const entry = this.#entryOf(header)
    if (!this.#first) {
      this.#first = entry
      this.#put({ kind: 'entry', entry: rootEntry(entry) })
    }
    // The archive of a tablespace is of the folder's content: the folder itself is ours to make.
    if (this.#prefix !== '' && entry.path.startsWith(`${this.#prefix}/`)) this.#tablespaceFolder(entry)
    if (entry.path === '') return
    this.#current = entry.path
    this.#put(header.type === 'file' ? { kind: 'file', entry } : { kind: 'entry', entry })
  }

  #tablespaceFolder(like: Entry): void {
    if (this.#folders.has(this.#prefix)) return
    this.#folders.add(this.#prefix)
    this.#put({ kind: 'entry', entry: { ...rootEntry(like), path: this.#prefix } })
  }

  #entryOf(header: TarHeader): Entry {
    const name = bytesToPath(header.name)
    const path = this.#prefix === '' ? name : name === '' ? this.#prefix : `${this.#prefix}/${name}`
    if (path === this.#prefix && header.type === 'directory') this.#folders.add(path)
    return {
      path,
      type: header.type,
      mode: header.mode,
      uid: header.uid,
      gid: header.gid,
      mtime: `${header.mtime}000000000`,
      ...(header.type === 'file' ? { size: header.size } : {}),
      ...(header.type === 'symlink' ? { target: bytesToPath(header.target) } : {}),
    }
  }

  #onContent(piece: Buffer): void {
    for (let offset = 0; offset < piece.length; ) {
      if (this.#cursor === this.#batch.length) this.#nextBatch()
      const copied = piece.copy(this.#batch, this.#cursor, offset)
      this.#cursor += copied
      offset += copied
    }
    this.#bytes += piece.length
    this.#options.progress(this.#bytes, this.#files)
  }

  #onFileEnd(): void {
    this.#handOver(null)
    // Files begin at multiples of 8, so that their checksum can be computed by words.
    this.#cursor = Math.min(this.#batch.length, (this.#cursor + 7) & ~7)
    this.#from = this.#cursor
    this.#files++
    this.#put({ kind: 'end', path: this.#current })
  }

  #nextBatch(): void {
    if (this.#batch.length > 0) this.#handOver(this.#batch)
    this.#batch = this.#spare.pop() ?? Buffer.allocUnsafeSlow(BATCH_BYTES)
    this.#from = 0
    this.#cursor = 0
  }

  /** `full` is the batch if this is the last use of it. */
  #handOver(full: Buffer | null): void {
    if (this.#cursor === this.#from && full === null) return
    this.#put({ kind: 'bytes', bytes: this.#batch.subarray(this.#from, this.#cursor), batch: full })
    this.#from = this.#cursor
  }

  #put(step: Step): void {
    this.#steps.push(step)
    this.#waiting += costOf(step)
    if (this.#waiting > HOLD_BYTES && !this.#held) {
      this.#held = true
      this.#options.hold()
    }
    this.#wake?.()
  }

  async #drain(): Promise<void> {
    let sink: FileSink | null = null
    let file: ReceivedFile = { size: 0, crc: 0 }
    for (;;) {
      if (this.#steps.length === 0) {
        if (this.#closed) return
        await new Promise<void>((resolve) => (this.#wake = resolve))
        this.#wake = null
        continue
      }
      const steps = this.#steps
      this.#steps = []
      for (const step of steps) {
        if (this.#abandoned) return
        if (step.kind === 'entry') await this.#options.writer.add(step.entry)
        else if (step.kind === 'file') {
          file = { size: 0, crc: 0 }
          sink = await this.#sinks.open(step.entry)
        } else if (step.kind === 'bytes') {
          file.size += step.bytes.length
          file.crc = crc32c(file.crc, step.bytes)
          if (step.bytes.length > 0) await sink?.write(step.bytes)
          if (step.batch) this.#spare.push(step.batch)
        } else if (step.kind === 'end') {
          await sink?.end()
          sink = null
          this.received.set(step.path, file)
        } else await this.#sinks.storeManifest(step.like, step.sent)
        this.#taken(step)
      }
    }
  }

  #taken(step: Step): void {
    this.#waiting -= costOf(step)
    if (this.#held && this.#waiting < RELEASE_BYTES) {
      this.#held = false
      this.#options.release()
    }
  }
}

function costOf(step: Step): number {
  return step.kind === 'bytes' ? step.bytes.length : STEP_BYTES
}

/** The data directory itself is not in the archive. It is open to the group if its files are (initdb --allow-group-access). */
function rootEntry(first: Entry): Entry {
  const groupMayRead = (first.mode & 0o040) !== 0
  return {
    path: '',
    type: 'directory',
    mode: groupMayRead ? 0o750 : 0o700,
    uid: first.uid,
    gid: first.gid,
    mtime: first.mtime,
  }
}
