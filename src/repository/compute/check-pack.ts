import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { RegainError } from '../../errors.ts'
import type { DomainKeys } from '../format/domain-keys.ts'
import { packName } from '../format/object-names.ts'
import { decodeDirectory, FOOTER_BYTES, type Group } from '../format/pack.ts'
import { FRAME_BYTES, HEADER_BYTES, Opener, plainSize, SEALED_FRAME_BYTES } from '../format/sealed.ts'
import type { CheckPackJob, CheckPackReply } from './messages.ts'
import { isChunk, openGroup } from './open-groups.ts'
import type { Rooms } from './room.ts'

/** Reads a pack whole and checks its name, every frame, its directory, every group and every chunk. */
export function checkPack(keys: DomainKeys, directory: string | null, rooms: Rooms, job: CheckPackJob): CheckPackReply {
  const name = packName(job.pack)
  let bytes: Buffer
  try {
    bytes = job.data ? Buffer.from(job.data) : readWhole(join(directory as string, name), rooms)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const kind = code === 'ENOENT' ? 'missing' : 'unreadable'
    return {
      bytesRead: 0,
      problem: { kind, detail: `${name} can't be read: ${code}.` },
      lostChunks: null,
    }
  }
  const named = createHash('sha256').update(bytes).digest('hex') === job.pack
  const lost: Buffer[] = []
  try {
    const plain = openLeniently(keys, bytes, rooms, name)
    for (const group of readDirectory(plain, job.directory, name))
      lost.push(...lostOf(keys, plain, group, rooms, job.pack))
    const sound = named && lost.length === 0 && plain.broken.length === 0
    return {
      bytesRead: bytes.length,
      problem: sound ? null : { kind: 'changed', detail: describe(name, plain.broken, lost.length) },
      lostChunks: Buffer.concat(lost),
    }
  } catch (error) {
    if (!(error instanceof RegainError)) throw error
    return {
      bytesRead: bytes.length,
      problem: { kind: 'changed', detail: error.message },
      lostChunks: null,
    }
  }
}

function readWhole(path: string, rooms: Rooms): Buffer {
  const fd = openSync(path, 'r')
  try {
    const bytes = rooms.pack.take(fstatSync(fd).size)
    let filled = 0
    while (filled < bytes.length) {
      const got = readSync(fd, bytes, filled, bytes.length - filled, filled)
      if (got === 0) break
      filled += got
    }
    return bytes.subarray(0, filled)
  } finally {
    closeSync(fd)
  }
}

interface LenientPlain {
  bytes: Buffer
  /** Numbers of frames that failed; their bytes are zero. */
  broken: number[]
}

function openLeniently(keys: DomainKeys, sealed: Buffer, rooms: Rooms, name: string): LenientPlain {
  const bytes = rooms.plain.take(plainSize(sealed.length, name))
  const opener = new Opener(keys, 'P', '', sealed.subarray(0, HEADER_BYTES), sealed.length, name)
  const broken: number[] = []
  for (let frame = 0, at = HEADER_BYTES; at < sealed.length; frame++, at += SEALED_FRAME_BYTES) {
    try {
      opener
        .open(frame, sealed.subarray(at, Math.min(at + SEALED_FRAME_BYTES, sealed.length)))
        .copy(bytes, frame * FRAME_BYTES)
    } catch (error) {
      if (!(error instanceof RegainError)) throw error
      bytes.subarray(frame * FRAME_BYTES, (frame + 1) * FRAME_BYTES).fill(0)
      broken.push(frame)
    }
  }
  return { bytes, broken }
}

/** The index's copy of it is authentic, so it serves where the pack's own may be damaged. */
function readDirectory(plain: LenientPlain, indexed: Uint8Array | null, name: string): Group[] {
  if (indexed && plain.broken.length > 0) return decodeDirectory(Buffer.from(indexed), name)
  const footer = plain.bytes.length - FOOTER_BYTES
  if (footer < 0) throw new RegainError('repository-damaged', `${name} is too short to be a pack.`)
  if (plain.bytes.readUInt32LE(footer + 4) !== 0)
    throw new RegainError('repository-version', `${name} ends in a part that this version of Regain does not know.`)
  const start = footer - plain.bytes.readUInt32LE(footer)
  if (start < 0) throw new RegainError('repository-damaged', `The directory of ${name} can't be found.`)
  return decodeDirectory(plain.bytes.subarray(start, footer), name)
}

function lostOf(keys: DomainKeys, plain: LenientPlain, group: Group, rooms: Rooms, pack: string): Buffer[] {
  const stored = plain.bytes.subarray(group.offset, group.offset + group.storedBytes)
  try {
    const raw = openGroup(group, stored, pack, rooms)
    return group.chunks
      .filter((c) => !isChunk(keys, c.id, raw.subarray(c.offset, c.offset + c.length)))
      .map((c) => c.id)
  } catch (error) {
    if (!(error instanceof RegainError)) throw error
    return group.chunks.map((chunk) => chunk.id)
  }
}

function describe(name: string, broken: number[], lost: number): string {
  const frames = broken.length === 0 ? '' : ` ${broken.length} of its frames fail authentication.`
  return `${name} was changed: its bytes no longer give its name.${frames} ${lost} of its chunks are lost.`
}
