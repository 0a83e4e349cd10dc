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

/** `edit` gets each file's record without the comma behind it; null drops it. */
function editLines(manifest: Buffer, edit: (line: string, path: string) => string | null): Buffer {
  const lines = manifest.toString('utf8').split('\n')
  const before: string[] = []
  const files: string[] = []
  const after: string[] = []
  let isBehind = false
  for (const line of lines) {
    const bare = line.replace(/,\s*$/, '')
    const path = manifestPath(bare)
    if (path === null) {
      isBehind ||= files.length > 0 || line.startsWith(']')
      ;(isBehind ? after : before).push(line)
      continue
    }
    const edited = edit(bare, path)
    if (edited !== null) files.push(edited)
  }
  const text = [...before, files.join(',\n'), ...after].join('\n')
  const body = text.slice(0, text.lastIndexOf('"Manifest-Checksum"'))
  const checksum = createHash('sha256').update(body).digest('hex')
  return Buffer.from(`${body}"Manifest-Checksum": "${checksum}"}\n`)
}
