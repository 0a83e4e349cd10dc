import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { RegainError } from '../../errors.ts'
import { isLoss } from '../damage.ts'
import { chunkId, type DomainKeys } from '../format/domain-keys.ts'
import { packName } from '../format/object-names.ts'
import { METHOD_ZSTD } from '../format/pack.ts'
import { FRAME_BYTES, HEADER_BYTES, Opener, SEALED_FRAME_BYTES } from '../format/sealed.ts'
import { decompress } from '../zstd.ts'
import type { GroupPlace, PackGroups } from './messages.ts'
import { Room, type Rooms } from './room.ts'

/** First and one past the last frame that hold the groups, which are sorted by offset. */
export function frameSpan(groups: readonly GroupPlace[]): { first: number; end: number } {
  const firstGroup = groups[0] as GroupPlace
  const lastGroup = groups[groups.length - 1] as GroupPlace
  return {
    first: Math.floor(firstGroup.offset / FRAME_BYTES),
    end: Math.max(1, Math.ceil((lastGroup.offset + lastGroup.storedBytes) / FRAME_BYTES)),
  }
}

/** Byte range of those frames in the sealed pack. */
export function sealedSpan(
  span: { first: number; end: number },
  sizeBytes: number,
): { offset: number; length: number } {
  const offset = HEADER_BYTES + span.first * SEALED_FRAME_BYTES
  return { offset, length: Math.min(HEADER_BYTES + span.end * SEALED_FRAME_BYTES, sizeBytes) - offset }
}

/** Opens groups of packs; keeps the last few packs' keys and file handles. Belongs to one thread. */
export class GroupOpener {
  private readonly keys: DomainKeys
  private readonly directory: string | null
  private readonly packs = new Map<string, { opener: Opener; fd: number | null }>()
  /** Frames as they are read, until they are opened. */
  private readonly sealed = new Room()
  private static readonly KEPT_PACKS = 16

  constructor(keys: DomainKeys, directory: string | null) {
    this.keys = keys
    this.directory = directory
  }

  /** Reads the groups' frames. Throws `storage-not-found` if the pack is gone. */
  open(source: PackGroups): OpenedGroups {
    const span = frameSpan(source.groups)
    const { opener, frames } = this.frames(source, span)
    const plain: (Buffer | string)[] = []
    for (let frame = span.first; frame < span.end; frame++) {
      const at = (frame - span.first) * SEALED_FRAME_BYTES
      plain.push(openFrame(opener, frame, frames.subarray(at, Math.min(at + SEALED_FRAME_BYTES, frames.length))))
    }
    return new OpenedGroups(source, span.first, plain)
  }

  close(): void {
    for (const { fd } of this.packs.values()) if (fd !== null) closeSync(fd)
    this.packs.clear()
  }

  private frames(source: PackGroups, span: { first: number; end: number }): { opener: Opener; frames: Uint8Array } {
    const name = packName(source.pack)
    const known = this.packs.get(source.pack)
    if (source.data) {
      const opener = known?.opener ?? new Opener(this.keys, 'P', '', source.data.header, source.sizeBytes, name)
      if (!known) this.remember(source.pack, opener, null)
      return { opener, frames: source.data.frames }
    }
    const open = known ?? this.openLocal(source, name)
    const { offset, length } = sealedSpan(span, source.sizeBytes)
    return { opener: open.opener, frames: readAt(open.fd as number, offset, this.sealed.take(length), name) }
  }

  private openLocal(source: PackGroups, name: string): { opener: Opener; fd: number } {
    if (this.directory === null) throw new Error('no local directory')
    let fd: number
    try {
      fd = openSync(join(this.directory, name), 'r')
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code === 'ENOENT') throw new RegainError('storage-not-found', `${name} is missing from the repository.`)
      if (code === 'EACCES') throw new RegainError('storage-denied', `${name} may not be read by this user.`)
      throw new RegainError('storage-unavailable', `${name} can't be read: ${code}.`, { cause: error })
    }
    try {
      const header = readAt(fd, 0, Buffer.alloc(HEADER_BYTES), name)
      const opener = new Opener(this.keys, 'P', '', header, source.sizeBytes, name)
      this.remember(source.pack, opener, fd)
      return { opener, fd }
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  private remember(pack: string, opener: Opener, fd: number | null): void {
    if (this.packs.size >= GroupOpener.KEPT_PACKS) {
      const [oldest, { fd: oldFd }] = this.packs.entries().next().value as [string, { fd: number | null }]
      if (oldFd !== null) closeSync(oldFd)
      this.packs.delete(oldest)
    }
    this.packs.set(pack, { opener, fd })
  }
}

/** Groups of one pack, each opened when it is asked for, so that one flipped bit does not cost its neighbours. */
export class OpenedGroups {
  private readonly source: PackGroups
  private readonly firstFrame: number
  private readonly frames: readonly (Buffer | string)[]

  constructor(source: PackGroups, firstFrame: number, frames: readonly (Buffer | string)[]) {
    this.source = source
    this.firstFrame = firstFrame
    this.frames = frames
  }

  /** Every frame was authenticated: these bytes are what was written. */
  get isWhole(): boolean {
    return this.frames.every((frame) => typeof frame !== 'string')
  }

  /** Raw bytes of a group: in `rooms`, so valid until their next use, or else the caller's own. Throws `repository-damaged`. */
  get(group: number, rooms?: Rooms): Buffer {
    const place = this.source.groups[group] as GroupPlace
    const stored = rooms?.stored.take(place.storedBytes) ?? Buffer.allocUnsafeSlow(place.storedBytes)
    assemble(this.frames, this.firstFrame, place, stored)
    return openGroup(place, stored, this.source.pack, rooms)
  }
}

/**
 * Goes through chunks in the order of their groups: each group is opened once, into the same memory. A chunk's bytes are
 * valid until the next one is asked for.
 */
export class ChunksInOrder {
  private readonly keys: DomainKeys
  private readonly groups: OpenedGroups | string
  private readonly rooms: Rooms
  private current = -1
  private raw: Buffer | string = ''

  /** A pack that is gone loses every chunk, whatever other packs hold. */
  constructor(keys: DomainKeys, opener: GroupOpener, source: PackGroups, rooms: Rooms) {
    this.keys = keys
    this.rooms = rooms
    this.groups = orLoss(() => opener.open(source))
  }

  /** The chunk's bytes, proven by its id, or in words why they can't be had. */
  get(group: number, offset: number, length: number, id: Uint8Array): Buffer | string {
    if (group !== this.current) {
      const { groups } = this
      this.raw = typeof groups === 'string' ? groups : orLoss(() => groups.get(group, this.rooms))
      this.current = group
    }
    if (typeof this.raw === 'string') return this.raw
    const bytes = this.raw.subarray(offset, offset + length)
    return isChunk(this.keys, id, bytes) ? bytes : 'A chunk of it does not match its identity.'
  }
}

function orLoss<T>(work: () => T): T | string {
  try {
    return work()
  } catch (error) {
    if (isLoss(error)) return error.message
    throw error
  }
}

/** The one proof that matters: these bytes are what was stored under that id. */
export function isChunk(keys: DomainKeys, id: Uint8Array, bytes: Uint8Array): boolean {
  return chunkId(keys, bytes).equals(id)
}

function openFrame(opener: Opener, frame: number, sealed: Uint8Array): Buffer | string {
  try {
    if (sealed.length <= 16) return 'the pack is shorter than its index says'
    return opener.open(frame, sealed)
  } catch (error) {
    if (error instanceof RegainError) return error.message
    throw error
  }
}

/**
 * Fills `out` with the group's stored bytes out of consecutive frames; a frame that could not be opened is its error's text. Of a group
 * that is not compressed, what lies in other frames is as good as ever: zeros stand for the rest, and each chunk's id tells.
 */
function assemble(frames: readonly (Buffer | string)[], firstFrame: number, group: GroupPlace, out: Buffer): void {
  let filled = 0
  let at = group.offset - firstFrame * FRAME_BYTES
  while (filled < group.storedBytes) {
    const frame = frames[Math.floor(at / FRAME_BYTES)] as Buffer | string
    const within = at % FRAME_BYTES
    const wanted = Math.min(FRAME_BYTES - within, group.storedBytes - filled)
    if (typeof frame === 'string') {
      if (group.method === METHOD_ZSTD) throw new RegainError('repository-damaged', frame)
      out.fill(0, filled, filled + wanted)
      filled += wanted
      at += wanted
      continue
    }
    const copied = frame.copy(out, filled, within, within + wanted)
    if (copied === 0) throw new RegainError('repository-damaged', 'A pack is shorter than its index says.')
    filled += copied
    at += copied
  }
}

/** The raw group, in `rooms` if they are given. Throws `repository-damaged` unless it is exactly as long as it must be. */
export function openGroup(group: GroupPlace, stored: Buffer, pack: string, rooms?: Rooms): Buffer {
  if (group.method !== METHOD_ZSTD) return stored
  const raw = rooms?.raw.take(group.rawBytes) ?? Buffer.allocUnsafeSlow(group.rawBytes)
  let bytes: number
  try {
    bytes = decompress(stored, raw)
  } catch (error) {
    throw new RegainError('repository-damaged', `A group of ${packName(pack)} does not decompress.`, { cause: error })
  }
  if (bytes !== group.rawBytes)
    throw new RegainError(
      'repository-damaged',
      `A group of ${packName(pack)} has ${bytes} bytes where ${group.rawBytes} were stored.`,
    )
  return raw
}

/** The part of `out` that could be filled: less than all if the file ends before. */
function readAt(fd: number, offset: number, out: Buffer, name: string): Buffer {
  let filled = 0
  while (filled < out.length) {
    let got: number
    try {
      got = readSync(fd, out, filled, out.length - filled, offset + filled)
    } catch (error) {
      throw new RegainError('storage-unavailable', `${name} can't be read: ${(error as NodeJS.ErrnoException).code}.`, {
        cause: error,
      })
    }
    if (got === 0) break
    filled += got
  }
  return out.subarray(0, filled)
}
