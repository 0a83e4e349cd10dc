import { open, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { systemOf } from '../server/server-disk.ts'
import { parseHeader, SEGMENT_HEADER_BYTES } from './segment-header.ts'
import { branchName, isSegmentName } from './wal.ts'

/** Of an archive, which may hold very many. */
const MAX_SEGMENTS_TRIED = 16

/**
 * The system identifier of the cluster that a timeline's history, at `path`, is of: the file itself does not say. It is
 * that of the data directory in whose pg_wal the file is; else of segments beside it, as in an archive; else of the data
 * directory that this process works in, as an archive_command does. Null if there is none of these.
 */
export async function clusterOfHistory(
  path: string,
  timeline: number,
  workingDirectory: string,
): Promise<string | null> {
  const folder = dirname(path)
  // By its name: where pg_wal is a link, what lies above its target is no data directory.
  return (
    (await controlledBy(join(folder, '..'))) ??
    (await segmentsBeside(folder, timeline)) ??
    (await controlledBy(workingDirectory))
  )
}

async function controlledBy(directory: string): Promise<string | null> {
  // That it is no data directory, or not for this user to read, is the answer.
  return systemOf(directory).catch(() => null)
}

async function segmentsBeside(folder: string, timeline: number): Promise<string | null> {
  // A folder that cannot be listed tells nothing; the file in it is read by its name.
  const names = (await readdir(folder).catch(() => [])).filter((name) => isSegmentName(name.slice(0, 24))).sort()
  const own = names.filter((name) => name.startsWith(branchName(timeline)))
  for (const name of new Set([...own, ...names].slice(0, MAX_SEGMENTS_TRIED))) {
    const system = await systemOfSegment(join(folder, name))
    if (system !== null) return system
  }
  return null
}

/** Null: it is none, made for later use, or gone since. */
async function systemOfSegment(path: string): Promise<string | null> {
  const file = await open(path, 'r').catch(() => null)
  if (file === null) return null
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(SEGMENT_HEADER_BYTES), 0, SEGMENT_HEADER_BYTES, 0)
    const { size } = await file.stat()
    const header = parseHeader(buffer.subarray(0, bytesRead))
    return header !== null && header.segmentBytes === size ? header.systemId : null
  } finally {
    await file.close()
  }
}
