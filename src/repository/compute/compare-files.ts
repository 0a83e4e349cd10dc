import { readSync } from 'node:fs'
import type { DomainKeys } from '../format/domain-keys.ts'
import { ID_BYTES } from '../format/domain-keys.ts'
import type { CompareJob, CompareReply } from './messages.ts'
import { isChunk } from './open-groups.ts'
import { targetTree } from './restore-files.ts'
import type { Room, Rooms } from './room.ts'

const PIECE_NUMBERS = 3

/**
 * Reads what files of a target hold and compares it with the ids of the chunks that should be there: no date or size is
 * trusted. What can't be read, because a file is too short or its disk fails, is not the same.
 */
export function compareFiles(keys: DomainKeys, rooms: Rooms, job: CompareJob): CompareReply {
  const tree = targetTree(job.target)
  const count = job.pieces.length / PIECE_NUMBERS
  const reply: CompareReply = { present: new Uint8Array(job.paths.length), same: new Uint8Array(count) }
  let piece = 0
  job.paths.forEach((path, file) => {
    const fd = tree.openExisting(path)
    if (fd !== null) reply.present[file] = 1
    try {
      for (; job.pieces[piece * PIECE_NUMBERS] === file; piece++) {
        if (fd === null) continue
        const position = job.pieces[piece * PIECE_NUMBERS + 1] as number
        const length = job.pieces[piece * PIECE_NUMBERS + 2] as number
        const bytes = read(fd, position, length, rooms.raw)
        const id = job.ids.subarray(piece * ID_BYTES, (piece + 1) * ID_BYTES)
        if (bytes && isChunk(keys, id, bytes)) reply.same[piece] = 1
      }
    } finally {
      if (fd !== null) tree.closeFile(fd)
    }
  })
  return reply
}

function read(fd: number, position: number, length: number, room: Room): Buffer | null {
  const bytes = room.take(length)
  try {
    for (let done = 0; done < length; ) {
      const got = readSync(fd, bytes, done, length - done, position + done)
      if (got === 0) return null
      done += got
    }
    return bytes
  } catch {
    // It is written anew then; if the disk does not take it either, that is told.
    return null
  }
}
