/**
 * Header and table of contents of an archive in pg_dump's custom format: fields as ReadHead and ReadToc of PostgreSQL's
 * src/bin/pg_dump/pg_backup_archiver.c read them, archive versions 1.14 (13 to 15), 1.15 (16) and 1.16 (17, 18). What
 * pg_restore --list prints cannot be read back: names stand in it without quotes.
 */
export interface ArchiveToc {
  /** Of the server that was dumped: '15.18'. */
  serverVersion: string
  entries: TocEntry[]
  /** Of header and table of contents; data follows. */
  bytes: number
}

export interface TocEntry {
  id: number
  /** What it is: 'TABLE', 'TABLE DATA', 'FK CONSTRAINT'. */
  kind: string
  /** Its name; of constraints, defaults, triggers and such that of their table stands before it. */
  tag: string
  /** Null: it is in no schema. */
  schema: string | null
  owner: string
  section: 'none' | 'pre-data' | 'data' | 'post-data'
  /** SQL that makes it. */
  definition: string
  /** Ids of what it needs. */
  needs: number[]
}

const SECTIONS: Record<number, TocEntry['section']> = { 1: 'none', 2: 'pre-data', 3: 'data', 4: 'post-data' }
const CUSTOM = 1
/** Longer texts and lists are damage, not archives. */
const MAX_TEXT = 512 * 1024 * 1024
const MAX_ENTRIES = 10_000_000

/** Thrown when the bytes end before the table of contents does. */
export class MoreBytes extends Error {}

/** Throws MoreBytes, or an Error that says what is wrong. */
export function parseToc(bytes: Buffer): ArchiveToc {
  const reader = new ArchiveReader(bytes)
  const version = readHeader(reader)
  const serverVersion = reader.text() ?? ''
  reader.text() // version of pg_dump
  const count = reader.integer()
  if (count < 0 || count > MAX_ENTRIES) throw new Error(`it says to have ${count} entries`)
  const entries: TocEntry[] = []
  for (let n = 0; n < count; n++) entries.push(readEntry(reader, version))
  return { serverVersion, entries, bytes: reader.position }
}

/** Up to the name of the database; the version of the archive's format as a number: 114. */
function readHeader(reader: ArchiveReader): number {
  if (reader.take(5).toString('latin1') !== 'PGDMP') throw new Error('it does not begin as one')
  const [major = 0, minor = 0] = reader.take(3)
  const version = major * 100 + minor
  if (version < 114 || version > 116) throw new Error(`its format is ${major}.${minor}, which is not known here`)
  reader.integerBytes = reader.byte()
  reader.offsetBytes = reader.byte()
  if (reader.byte() !== CUSTOM) throw new Error('it is not in the custom format')
  if (version >= 115) reader.byte()
  else reader.integer()
  // When it was made: seconds to daylight saving.
  for (let field = 0; field < 7; field++) reader.integer()
  reader.text()
  return version
}

function readEntry(reader: ArchiveReader, version: number): TocEntry {
  const id = reader.integer()
  reader.integer() // whether it has data
  reader.text() // catalog, oid
  reader.text()
  const tag = reader.text() ?? ''
  const kind = reader.text() ?? ''
  const section = SECTIONS[reader.integer()] ?? 'none'
  const definition = reader.text() ?? ''
  reader.text() // DROP, COPY
  reader.text()
  const schema = reader.text()
  reader.text() // tablespace, access method
  reader.text()
  if (version >= 116) reader.integer()
  const owner = reader.text() ?? ''
  reader.text() // whether it has oids
  const needs: number[] = []
  for (let need = reader.text(); need !== null; need = reader.text()) needs.push(Number(need))
  reader.take(1 + reader.offsetBytes)
  return { id, kind, tag, schema: schema === '' ? null : schema, owner, section, definition, needs }
}

class ArchiveReader {
  position = 0
  integerBytes = 4
  offsetBytes = 8
  readonly #bytes: Buffer

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  take(length: number): Buffer {
    if (this.position + length > this.#bytes.length) throw new MoreBytes()
    const taken = this.#bytes.subarray(this.position, this.position + length)
    this.position += length
    return taken
  }

  byte(): number {
    return this.take(1)[0] as number
  }

  /** A byte that tells the sign, then the number, its lowest byte first. */
  integer(): number {
    const isNegative = this.byte() !== 0
    let value = 0
    for (const byte of this.take(this.integerBytes).toReversed()) value = value * 256 + byte
    return isNegative ? -value : value
  }

  text(): string | null {
    const length = this.integer()
    if (length < 0) return null
    if (length > MAX_TEXT) throw new Error(`it has a text of ${length} bytes`)
    return this.take(length).toString('utf8')
  }
}
