import { mkdir, open } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { writeOutput } from '../../postgres/parts/output.ts'
import type { DumpedDatabase } from '../positions.ts'
import type { Archives } from './archives.ts'
import { type Load, writeScript } from './load.ts'

/** A dumped database into a folder of archives, or its own archive into a file. `taken` is told of bytes as they are written. */
export async function writeArchives(
  archives: Archives,
  database: DumpedDatabase,
  { kind, path }: { kind: 'folder' | 'archive'; path: string },
  taken: (bytes: number) => void,
): Promise<{ bytes: number; files: number }> {
  const written = { bytes: 0, files: 0 }
  const write = async (archive: string, to: string) => {
    written.bytes += await writeArchive(archives, archive, to, taken)
    written.files++
  }
  await writeOutput(path, async (unfinished) => {
    if (kind === 'archive') return write(database.archive, unfinished)
    await mkdir(unfinished, { mode: 0o700 })
    const all = [database.archive, ...database.tables.map(({ archive }) => archive)]
    for (const archive of all) await write(archive, join(unfinished, basename(archive)))
  })
  return written
}

async function writeArchive(
  archives: Archives,
  archive: string,
  to: string,
  taken: (bytes: number) => void,
): Promise<number> {
  const file = await open(to, 'wx', 0o600)
  let bytes = 0
  try {
    for await (const piece of archives.content(archive)) {
      await file.writeFile(piece)
      bytes += piece.length
      taken(piece.length)
    }
  } finally {
    await file.close()
  }
  return bytes
}

/** What is chosen of a dump as SQL. */
export async function writeSql(load: Load, path: string): Promise<void> {
  await writeOutput(path, async (unfinished) => {
    const file = await open(unfinished, 'wx', 0o600)
    try {
      await writeScript(load, (piece) => file.writeFile(piece))
    } finally {
      await file.close()
    }
  })
}
