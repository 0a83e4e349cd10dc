import { createHash } from 'node:crypto'
import { RegainError } from '../../../errors.ts'
import { bytesToPath } from '../../../filesystem/names.ts'
import type { ReceivedFile } from './archive-intake.ts'
import { formatCrc32c } from './crc32c.ts'

/**
 * A backup manifest as it arrives. Kept as bytes: its system identifier is a bare integer above 2^53, which parsing and
 * writing again would change. Files are one a line (src/backend/backup/backup_manifest.c), so lines are parsed alone.
 */
export class Manifest {
  #pieces: Buffer[] = []

  push(piece: Buffer): void {
    this.#pieces.push(Buffer.from(piece))
  }

  /** All that has arrived. Kept once: of 100,000 relations it has tens of megabytes. */
  get bytes(): Buffer {
    const whole = Buffer.concat(this.#pieces)
    this.#pieces = [whole]
    return whole
  }

  /**
   * Compares what was received with what the server says it sent; `received` is emptied of what matches. Rejects with
   * `source-unavailable` on the first difference: then bytes were lost or changed on the way, and nothing is kept.
   */
  verify(received: Map<string, ReceivedFile>): void {
    const text = this.bytes
    const tail = text.lastIndexOf('"Manifest-Checksum"')
    const claimed = /^"Manifest-Checksum": "([0-9a-f]{64})"\}\s*$/.exec(text.toString('latin1', Math.max(0, tail)))?.[1]
    const actual = createHash('sha256')
      .update(text.subarray(0, Math.max(0, tail)))
      .digest('hex')
    if (tail < 0 || claimed !== actual) throw mismatch('the manifest does not match its own checksum')
    for (const file of manifestFiles(text)) compare(file, received)
    const [extra] = received.keys()
    if (extra !== undefined) throw mismatch(`the server sent the file ${extra}, which its manifest does not name`)
  }
}

interface ManifestFile {
  path: string
  size: number
  algorithm: string
  checksum: string
}

function* manifestFiles(text: Buffer): Generator<ManifestFile> {
  for (let from = 0; from < text.length; ) {
    const newline = text.indexOf(0x0a, from)
    const end = newline < 0 ? text.length : newline
    const file = parseLine(text.toString('utf8', from, end))
    if (file) yield file
    from = end + 1
  }
}

/** The path of the file that a line of a manifest records; null for the frame around them. */
export function manifestPath(line: string): string | null {
  return parseLine(line)?.path ?? null
}

/** Null for lines that are no file: the frame around them. */
function parseLine(line: string): ManifestFile | null {
  const match = /^(?:"Files": \[)?\s*(\{ "(?:Path|Encoded-Path)": .*\}),?\s*\]?,?$/.exec(line.trim())
  if (!match?.[1]) return null
  const record = JSON.parse(match[1]) as Record<string, unknown>
  const encoded = record['Encoded-Path']
  const path = typeof encoded === 'string' ? bytesToPath(Buffer.from(encoded, 'hex')) : record.Path
  if (typeof path !== 'string' || typeof record.Size !== 'number')
    throw mismatch('the manifest has a record without path or size')
  return {
    path,
    size: record.Size,
    algorithm: String(record['Checksum-Algorithm'] ?? 'NONE'),
    checksum: String(record.Checksum ?? ''),
  }
}

function compare(file: ManifestFile, received: Map<string, ReceivedFile>): void {
  const got = received.get(file.path)
  if (!got) throw mismatch(`the file ${file.path} is in the manifest but did not arrive`)
  if (got.size !== file.size) throw mismatch(`${file.path} has ${got.size} bytes instead of ${file.size}`)
  if (file.algorithm === 'CRC32C' && formatCrc32c(got.crc) !== file.checksum)
    throw mismatch(`${file.path} does not match its checksum`)
  received.delete(file.path)
}

function mismatch(reason: string): RegainError {
  return new RegainError(
    'source-unavailable',
    `The backup that arrived is not the one that the server sent: ${reason}. Nothing of it is kept.`,
    {
      hint: 'Bytes changed on the way. Run the backup again; if it happens twice, look for a broken network device or memory.',
    },
  )
}
