import { RegainError } from '../../../errors.ts'
import type { Entry } from '../../../model.ts'
import type { PointWriter } from '../../contract.ts'
import { combineManifest, type EditedFile } from './combined-manifest.ts'
import { crc32c, formatCrc32c } from './crc32c.ts'
import { IncrementalFile, patchedPath } from './incremental-file.ts'

/** Where the bytes of a file go. */
export interface FileSink {
  write(bytes: Buffer): Promise<void>
  end(): Promise<void>
}

/** What the archives of an incremental backup hold changed blocks of. */
export interface SentInPart {
  entries: ReadonlyMap<string, Entry>
  blockBytes: number
}

/** Gives each file of an archive its place in the point: whole, or laid over the one of the last point. */
export class FileSinks {
  readonly #writer: PointWriter
  readonly #incremental: SentInPart | null
  /** Files whose record in the server's manifest is not that of what is stored. */
  readonly #edited = new Map<string, EditedFile>()
  #clusterBytes = 0

  /** `incremental` null: everything is sent whole. */
  constructor(writer: PointWriter, incremental: SentInPart | null) {
    this.#writer = writer
    this.#incremental = incremental
  }

  /** Bytes of the files as they stand, also of those that were sent in part. */
  get clusterBytes(): number {
    return this.#clusterBytes
  }

  /** Null: an empty file, which is stored already. */
  async open(entry: Entry): Promise<FileSink | null> {
    const patched = this.#incremental && patchedPath(entry.path)
    if (this.#incremental && patched) return this.#patchSink({ ...entry, path: patched }, this.#incremental)
    if (this.#incremental && entry.path === 'backup_label') return this.#labelSink(entry)
    this.#clusterBytes += entry.size ?? 0
    if (entry.size !== 0) return this.#writer.addStream(entry, chunkingOf(entry.path))
    await this.#writer.add(entry)
    return null
  }

  /** The server's manifest; of an incremental backup that of the whole which it makes together with the one before. */
  async storeManifest(like: Entry, sent: Buffer): Promise<void> {
    await this.#storeSmall(like, this.#incremental ? combineManifest(sent, this.#edited) : sent)
  }

  #patchSink(entry: Entry, { entries, blockBytes }: SentInPart): FileSink {
    const from = entries.get(entry.path)
    if (!from)
      throw new RegainError(
        'source-unsuitable',
        `The server sent changed blocks of ${entry.path}, which it was not told of. Nothing of this backup is kept.`,
      )
    const file = new IncrementalFile(blockBytes, async (size) => {
      const stream = await this.#writer.addPatched({ ...entry, size }, from)
      // `isPatchable` has said that it is, and that does not change.
      if (!stream) throw new Error(`${entry.path} could be patched and can not be any more`)
      return stream
    })
    return {
      write: (bytes) => file.write(bytes),
      end: async () => {
        await file.end()
        this.#clusterBytes += file.size
        this.#edited.set(entry.path, { size: file.size })
      },
    }
  }

  /** Once the blocks are laid over the earlier files, this is no incremental backup any more, as pg_combinebackup has it. */
  #labelSink(entry: Entry): FileSink {
    const pieces: Buffer[] = []
    return {
      write: async (bytes) => void pieces.push(Buffer.from(bytes)),
      end: async () => {
        const label = Buffer.concat(pieces).toString('latin1')
        const bytes = Buffer.from(label.replace(/^INCREMENTAL FROM .*\n/gm, ''), 'latin1')
        await this.#storeSmall(entry, bytes)
        this.#clusterBytes += bytes.length
        const checksum = { algorithm: 'CRC32C', value: formatCrc32c(crc32c(0, bytes)) }
        this.#edited.set(entry.path, { size: bytes.length, checksum })
      },
    }
  }

  async #storeSmall(entry: Entry, bytes: Buffer): Promise<void> {
    const stream = await this.#writer.addStream({ ...entry, size: bytes.length }, 'content')
    await stream.write(bytes)
    await stream.end()
  }
}

/**
 * Files of relations change page by page in place, so they are cut at fixed places; everything else where its content
 * says. Relations: base/<database>/<file>, global/<file>, and the same below a tablespace; forks and parts have suffixes.
 */
export function chunkingOf(path: string): 'pages' | 'content' {
  return /^(base\/\d+|global|pg_tblspc\/\d+\/[^/]+\/\d+)\/\d+(_(fsm|vm|init))?(\.\d+)?$/.test(path)
    ? 'pages'
    : 'content'
}
