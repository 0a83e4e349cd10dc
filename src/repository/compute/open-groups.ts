import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { RegainError } from '../../errors.ts'
import { chunkId, type DomainKeys, ID_BYTES } from '../format/domain-keys.ts'
import { packName } from '../format/object-names.ts'
import { METHOD_ZSTD } from '../format/pack.ts'
import { FRAME_BYTES, HEADER_BYTES, Opener, SEALED_FRAME_BYTES } from '../format/sealed.ts'
import { decompress, decompressBeginning, ZSTD_BLOCK_BYTES } from '../packs/zstd.ts'
import { isLoss } from '../verify/damage.ts'
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
    return openGroup(this.place(group), this.stored(group, rooms), this.source.pack, rooms)
  }

  /** The first `end` bytes, and perhaps more. Not all of the group is read, so only a chunk's id tells whether they are right. */
  getBeginning(group: number, end: number, rooms: Rooms): Buffer {
    const place = this.place(group)
    const room = end + ZSTD_BLOCK_BYTES
    if (place.method !== METHOD_ZSTD || room >= place.rawBytes) return this.get(group, rooms)
    const raw = rooms.raw.take(room)
    orDamaged(this.source.pack, () => decompressBeginning(this.stored(group, rooms), raw))
    return raw
  }

  private place(group: number): GroupPlace {
    return this.source.groups[group] as GroupPlace
  }

  private stored(group: number, rooms?: Rooms): Buffer {
    const place = this.place(group)
    const stored = rooms?.stored.take(place.storedBytes) ?? Buffer.allocUnsafeSlow(place.storedBytes)
    assemble(this.frames, this.firstFrame, place, stored)
    return stored
  }
}

const MISMATCH = 'A chunk of it does not match its identity.'

/** What a job says of the chunks it wants: 3 words each, see RestoreJob. */
const PLACE_WORDS = 3

/**
 * Goes through chunks in the order of their groups: each group is opened once, into the same memory, as far as the last
 * chunk that is wanted of it. A chunk's bytes are valid until the next one is asked for.
 */
export class ChunksInOrder {
  private readonly keys: DomainKeys
  private readonly job: { ids: Uint8Array; places: Uint32Array }
  private readonly groups: OpenedGroups | string
  private readonly ends: Uint32Array
  private readonly rooms: Rooms
  private current = -1
  private raw: Buffer | string = ''

  /** A pack that is gone loses every chunk, whatever other packs hold. */
  constructor(
    keys: DomainKeys,
    opener: GroupOpener,
    job: { source: PackGroups; ids: Uint8Array; places: Uint32Array },
    rooms: Rooms,
  ) {
    this.keys = keys
    this.job = job
    this.rooms = rooms
    this.groups = orLoss(() => opener.open(job.source))
    this.ends = new Uint32Array(job.source.groups.length)
    for (let chunk = 0; chunk < this.count; chunk++) {
      const { group, end } = this.placeOf(chunk)
      this.ends[group] = Math.max(this.ends[group] as number, end)
    }
  }

  get count(): number {
    return this.job.places.length / PLACE_WORDS
  }

  /** The chunk's bytes, proven by its id, or in words why they can't be had. */
  get(chunk: number): Buffer | string {
    const bytes = this.unproven(chunk)
    return typeof bytes === 'string' || isChunk(this.keys, this.idOf(chunk), bytes) ? bytes : MISMATCH
  }

  idOf(chunk: number): Uint8Array {
    return this.job.ids.subarray(chunk * ID_BYTES, (chunk + 1) * ID_BYTES)
  }

  /** For who computes the id himself, before he uses the bytes. */
  unproven(chunk: number): Buffer | string {
    const { group, offset, end } = this.placeOf(chunk)
    if (group !== this.current) {
      this.raw = this.open(group)
      this.current = group
    }
    if (typeof this.raw === 'string') return this.raw
    return this.raw.subarray(offset, end)
  }

  private open(group: number): Buffer | string {
    const { groups } = this
    if (typeof groups === 'string') return groups
    return orLoss(() => groups.getBeginning(group, this.ends[group] as number, this.rooms))
  }

  private placeOf(chunk: number): { group: number; offset: number; end: number } {
    const at = chunk * PLACE_WORDS
    const { places } = this.job
    const offset = places[at + 1] as number
    return { group: places[at] as number, offset, end: offset + (places[at + 2] as number) }
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
  const bytes = orDamaged(pack, () => decompress(stored, raw))
  if (bytes !== group.rawBytes)
    throw new RegainError(
      'repository-damaged',
      `A group of ${packName(pack)} has ${bytes} bytes where ${group.rawBytes} were stored.`,
    )
  return raw
}

function orDamaged<T>(pack: string, unpack: () => T): T {
  try {
    return unpack()
  } catch (error) {
    throw new RegainError('repository-damaged', `A group of ${packName(pack)} does not decompress.`, { cause: error })
  }
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
