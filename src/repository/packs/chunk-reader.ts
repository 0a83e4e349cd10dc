import { RegainError } from '../../errors.ts'
import type { ObjectCache } from '../../storage/contract.ts'
import type { PackGroups } from '../compute/messages.ts'
import { frameSpan, GroupOpener, isChunk, sealedSpan } from '../compute/open-groups.ts'
import { packName } from '../format/object-names.ts'
import { HEADER_BYTES } from '../format/sealed.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage, isLoss } from '../verify/damage.ts'
import type { ChunkPlace } from './chunk-index.ts'
import type { Copies } from './copies.ts'

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
  private readonly cache: ObjectCache | null
  private readonly kept = new Map<string, Promise<Buffer>>()

  /** `fromCache`: this machine's copies of listed packs will do, for who reads a point and does not ask what state it is in. */
  constructor(state: RepositoryState, copies: Copies, signal: AbortSignal, options: { fromCache?: boolean } = {}) {
    this.state = state
    this.copies = copies
    this.signal = signal
    this.cache = (options.fromCache && state.storage.cache) || null
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
    const { name, sizeBytes } = place.knownPack
    const opened = this.open({ pack: name, sizeBytes, groups: [place.groupPlace] })
    this.kept.set(key, opened)
    opened.catch(() => this.kept.delete(key))
    return opened
  }

  private async open(source: PackGroups): Promise<Buffer> {
    const copy = await this.openCopy(source)
    if (copy) return copy
    const fetched = await fetchGroups(this.state, source, this.signal)
    const opened = this.opener.open(fetched)
    if (this.cache && fetched.data && opened.isWhole) {
      const { header, frames } = fetched.data
      await this.cache.keep(packName(source.pack), partOf(source), [header, frames])
    }
    return opened.get(0)
  }

  /** Null: there is none that is exactly as it was written. */
  private async openCopy(source: PackGroups): Promise<Buffer | null> {
    const name = packName(source.pack)
    const copy = await this.cache?.get(name, partOf(source))
    if (!copy) return null
    const { first } = frameSpan(source.groups)
    const data = { header: copy.subarray(0, HEADER_BYTES), firstFrame: first, frames: copy.subarray(HEADER_BYTES) }
    try {
      const opened = this.opener.open({ ...source, data })
      if (opened.isWhole) return opened.get(0)
    } catch (error) {
      if (!isDamage(error)) throw error
    }
    await this.cache?.drop(name, partOf(source))
    return null
  }
}

/** A copy is the pack's header and these frames. */
function partOf({ groups }: PackGroups): string {
  const { first, end } = frameSpan(groups)
  return `frames-${first}-${end}`
}

/** Adds the sealed bytes when the threads can't read the store themselves. */
export async function fetchGroups(
  state: RepositoryState,
  source: PackGroups,
  signal?: AbortSignal,
): Promise<PackGroups> {
  if (state.storage.localDirectory !== undefined) return source
  const span = frameSpan(source.groups)
  const range = sealedSpan(span, source.sizeBytes)
  const [header, frames] = await Promise.all([
    state.headers.read(source.pack, source.sizeBytes, signal),
    state.storage.get(packName(source.pack), range, signal ? { signal } : {}),
  ])
  return { ...source, data: { header: new Uint8Array(header), firstFrame: span.first, frames: ownBytes(frames) } }
}

/** To be handed over to a thread with what was fetched, which is gone here then. */
export function ownedBuffers({ data }: PackGroups): ArrayBuffer[] {
  return data ? [data.frames.buffer as ArrayBuffer] : []
}

/** How much `fetchGroups` reads. */
export function sealedBytes(source: PackGroups): number {
  return sealedSpan(frameSpan(source.groups), source.sizeBytes).length
}

/** A copy in memory of its own if the bytes are part of something larger, which a message would copy whole. */
function ownBytes(bytes: Buffer): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}
