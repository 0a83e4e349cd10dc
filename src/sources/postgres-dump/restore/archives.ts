import { writeFile } from 'node:fs/promises'
import { RegainError } from '../../../errors.ts'
import type { Entry } from '../../../model.ts'
import type { PointReader } from '../../contract.ts'
import { type ArchiveToc, MoreBytes, parseToc } from './archive-toc.ts'

/** The archives of a point, read from its repository as they are needed. */
export class Archives {
  readonly #reader: PointReader
  readonly #entries: Map<string, Entry>

  private constructor(reader: PointReader, entries: Map<string, Entry>) {
    this.#reader = reader
    this.#entries = entries
  }

  static async open(reader: PointReader): Promise<Archives> {
    const entries = new Map<string, Entry>()
    for await (const entry of reader.entries()) entries.set(entry.path, entry)
    return new Archives(reader, entries)
  }

  /** In order, every chunk verified. */
  async *content(path: string): AsyncGenerator<Buffer, void, undefined> {
    const entry = this.#entries.get(path)
    if (entry?.type !== 'file')
      throw new RegainError('repository-damaged', `The point has no ${path}, which it says to have.`)
    for await (const { bytes } of this.#reader.contents(one(entry), () => true)) if (bytes !== null) yield bytes
  }

  /**
   * Table of contents; header and table are written to `file`, which then is an archive without data: programs can seek in
   * it, and make indexes side by side.
   */
  async head(path: string, file: string): Promise<ArchiveToc> {
    let bytes = Buffer.alloc(0)
    let tryFrom = 1
    const pieces: Buffer[] = []
    let length = 0
    for await (const piece of this.content(path)) {
      pieces.push(Buffer.from(piece))
      length += piece.length
      if (length < tryFrom) continue
      bytes = Buffer.concat(pieces)
      const toc = tryParse(path, bytes)
      if (toc !== null) {
        await writeFile(file, bytes.subarray(0, toc.bytes), { mode: 0o600, flag: 'wx' })
        return toc
      }
      tryFrom = length * 2
    }
    const toc = tryParse(path, Buffer.concat(pieces))
    if (toc === null) throw unreadable(path, 'it ends too early')
    await writeFile(file, Buffer.concat(pieces).subarray(0, toc.bytes), { mode: 0o600, flag: 'wx' })
    return toc
  }
}

function tryParse(path: string, bytes: Buffer): ArchiveToc | null {
  try {
    return parseToc(bytes)
  } catch (error) {
    if (error instanceof MoreBytes) return null
    throw unreadable(path, (error as Error).message)
  }
}

function unreadable(path: string, why: string): RegainError {
  return new RegainError('repository-damaged', `${path} is no archive that can be read here: ${why}.`, {
    hint: 'Restore into a directory, and try it with pg_restore.',
  })
}

async function* one(entry: Entry): AsyncGenerator<Entry, void, undefined> {
  yield entry
}
