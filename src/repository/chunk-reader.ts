import { RegainError } from '../errors.ts'
import type { ChunkPlace } from './chunk-index.ts'
import type { GroupPlace, PackGroups } from './compute/messages.ts'
import { frameSpan, GroupOpener, isChunk, sealedSpan } from './compute/open-groups.ts'
import type { Copies } from './copies.ts'
import { isLoss } from './damage.ts'
import { packName } from './format/object-names.ts'
import { HEADER_BYTES } from './format/sealed.ts'
import type { RepositoryState } from './repository-state.ts'

/** Raw groups kept, so that neighbours cost one read. */
const KEPT_GROUPS = 12
/** Copies of a chunk that are tried. */
const MAX_COPIES = 3

/**
 * Reads single chunks, for listings and small files. Every chunk is checked against its id. Bulk data goes through the
 * compute threads instead (materialize.ts).
 */
export class ChunkReader {
  private readonly state: RepositoryState
  private readonly copies: Copies
  private readonly signal: AbortSignal
  private readonly opener: GroupOpener
  private readonly kept = new Map<string, Promise<Buffer>>()

  constructor(state: RepositoryState, copies: Copies, signal: AbortSignal) {
    this.state = state
    this.copies = copies
    this.signal = signal
    this.opener = new GroupOpener(state.keys, state.storage.localDirectory ?? null)
  }

  /** A view; do not change it. Rejects with `repository-damaged` if no copy is known or the copy is damaged. */
  async read(id: Uint8Array): Promise<Buffer> {
    let place = this.copies.locate(id) ?? (await this.copies.locateElsewhere(id, null))
    if (!place)
      throw new RegainError(
        'repository-damaged',
        `Chunk ${Buffer.from(id).toString('hex')} is in no pack: its pack or its index was lost.`,
      )
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.readFrom(place, id)
      } catch (error) {
        if (!isLoss(error) || attempt === MAX_COPIES) throw error
        place = await this.copies.locateElsewhere(id, place.knownPack.name)
        if (!place) throw error
      }
    }
  }

  private async readFrom(place: ChunkPlace, id: Uint8Array): Promise<Buffer> {
    const raw = await this.group(place)
    const bytes = raw.subarray(place.offset, place.offset + place.length)
    if (!isChunk(this.state.keys, id, bytes))
      throw new RegainError(
        'repository-damaged',
        `A chunk in ${packName(place.knownPack.name)} does not match its identity.`,
      )
    return bytes
  }

  close(): void {
    this.opener.close()
    this.kept.clear()
  }

  private group(place: ChunkPlace): Promise<Buffer> {
    const key = `${place.knownPack.name}/${place.group}`
    const known = this.kept.get(key)
    if (known) {
      this.kept.delete(key)
      this.kept.set(key, known)
      return known
    }
    if (this.kept.size >= KEPT_GROUPS) this.kept.delete(this.kept.keys().next().value as string)
    const opened = this.open(place.knownPack.name, place.knownPack.sizeBytes, place.groupPlace)
    this.kept.set(key, opened)
    opened.catch(() => this.kept.delete(key))
    return opened
  }

  private async open(pack: string, sizeBytes: number, group: GroupPlace): Promise<Buffer> {
    const source = await fetchGroups(this.state, { pack, sizeBytes, groups: [group] }, this.signal)
    return this.opener.open(source).get(0)
  }
}

/** Adds the sealed bytes when the threads can't read the store themselves. */
export async function fetchGroups(
  state: RepositoryState,
  source: PackGroups,
  signal?: AbortSignal,
): Promise<PackGroups> {
  if (state.storage.localDirectory !== undefined) return source
  const call = signal ? { signal } : {}
  const name = packName(source.pack)
  const span = frameSpan(source.groups)
  const range = sealedSpan(span, source.sizeBytes)
  const header = state.storage.get(name, { offset: 0, length: HEADER_BYTES }, call)
  const frames = state.storage.get(name, range, call)
  const [headerBytes, frameBytes] = await Promise.all([header, frames])
  return { ...source, data: { header: ownBytes(headerBytes), firstFrame: span.first, frames: ownBytes(frameBytes) } }
}

/** A copy in memory of its own if the bytes are part of something larger, which a message would copy whole. */
function ownBytes(bytes: Buffer): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}
