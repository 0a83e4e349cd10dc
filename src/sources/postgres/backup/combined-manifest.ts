import { createHash } from 'node:crypto'
import { patchedPath } from './incremental-file.ts'
import { manifestPath } from './manifest.ts'

/**
 * Manifests that no server sent: what the next incremental backup is taken against. They are edited line by line and
 * never parsed as a whole: the system identifier is a bare integer above 2^53.
 */

/** A file whose record must say something else. Without a checksum it has none: its size is all that can be checked. */
export interface EditedFile {
  size: number
  checksum?: { algorithm: string; value: string }
}

/** The manifest of what an incremental backup makes together with the one before it. `edited`: by path in the data directory. */
export function combineManifest(sent: Buffer, edited: ReadonlyMap<string, EditedFile>): Buffer {
  return editLines(sent, (line, path) => {
    const whole = patchedPath(path) ?? path
    const file = edited.get(whole)
    if (!file) return line
    const { 'Last-Modified': modified } = JSON.parse(line.replace(/,$/, '')) as Record<string, unknown>
    const record: Record<string, unknown> = { Path: whole, Size: file.size, 'Last-Modified': modified }
    if (file.checksum)
      Object.assign(record, { 'Checksum-Algorithm': file.checksum.algorithm, Checksum: file.checksum.value })
    const fields = Object.entries(record).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`)
    return `{ ${fields.join(', ')} }`
  })
}

/** Without some files, so that the server sends those whole. */
export function leaveOut(manifest: Buffer, isLeftOut: (path: string) => boolean): Buffer {
  return editLines(manifest, (line, path) => (isLeftOut(path) ? null : line))
}

/**
 * `edit` gets each file's record without the comma behind it; null drops it. Line by line from one buffer into another:
 * of a hundred thousand relations a manifest has tens of megabytes, and as strings in lists several times that.
 */
function editLines(manifest: Buffer, edit: (line: string, path: string) => string | null): Buffer {
  const edited = new GrowingText(manifest.length + 4096)
  let files = 0
  let isBehind = false
  for (let from = 0; from < manifest.length; ) {
    const newline = manifest.indexOf(0x0a, from)
    const end = newline < 0 ? manifest.length : newline
    const line = manifest.toString('utf8', from, end)
    from = end + 1
    if (line.startsWith('"Manifest-Checksum"')) break
    const bare = line.replace(/,\s*$/, '')
    const path = manifestPath(bare)
    if (path === null) {
      if (files > 0 && !isBehind) edited.add('\n')
      isBehind = files > 0
      edited.add(`${line}\n`)
      continue
    }
    const record = edit(bare, path)
    if (record !== null) edited.add(files++ === 0 ? record : `,\n${record}`)
  }
  const checksum = createHash('sha256').update(edited.bytes).digest('hex')
  edited.add(`"Manifest-Checksum": "${checksum}"}\n`)
  return edited.bytes
}

class GrowingText {
  #buffer: Buffer
  #length = 0

  constructor(expectedBytes: number) {
    this.#buffer = Buffer.allocUnsafe(expectedBytes)
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  add(text: string): void {
    const bytes = Buffer.byteLength(text)
    if (this.#length + bytes > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#length + bytes, this.#buffer.length * 2))
      this.#buffer.copy(larger, 0, 0, this.#length)
      this.#buffer = larger
    }
    this.#length += this.#buffer.write(text, this.#length)
  }
}
