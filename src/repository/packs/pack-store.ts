import { createHash } from 'node:crypto'
import { isRegainError } from '../../errors.ts'
import type { PackMessage } from '../compute/pool.ts'
import { encodeIndexSegment, type IndexedPack } from '../format/index-segment.ts'
import { indexName, packName } from '../format/object-names.ts'
import { openObject, sealObject } from '../format/sealed.ts'
import type { RepositoryState } from '../repository-state.ts'

/**
 * An index segment is written after so many packs, so that a backup that dies leaves most of its work usable, or so many bytes,
 * which are held until then: 100,000 chunks.
 */
const PACKS_PER_SEGMENT = 32
const BYTES_PER_SEGMENT = 4 * 1024 * 1024
/** Of one pack, each under a name of its own. */
const PUT_ATTEMPTS = 3

/**
 * Step 4 of the writer: puts finished packs, each name once, and index entries only for packs that are durable. Threads
 * produce no more than a few packs ahead (compute/store.ts), which bounds what is in flight here.
 */
export class PackStore {
  private readonly state: RepositoryState
  /** Of the backup, or of its giving up: a store that does not answer must not hold up either. */
  private readonly signal: AbortSignal
  private readonly fromReserve: boolean
  private readonly givenUp = new AbortController()
  private readonly failed: (error: unknown) => void
  private readonly puts = new Set<Promise<void>>()
  private stored: IndexedPack[] = []
  private storedDirectoryBytes = 0
  storedBytes = 0
  newBytes = 0

  /** `fromReserve`: as of a store's writes. */
  constructor(
    state: RepositoryState,
    signal: AbortSignal,
    failed: (error: unknown) => void,
    { fromReserve = false }: { fromReserve?: boolean } = {},
  ) {
    this.state = state
    this.fromReserve = fromReserve
    this.signal = AbortSignal.any([signal, this.givenUp.signal])
    this.failed = failed
  }

  take(pack: PackMessage, giveBack: (buffer: ArrayBuffer) => void): void {
    const put = this.put(pack)
      .catch(this.failed)
      .finally(() => {
        giveBack(pack.buffer)
        this.puts.delete(put)
      })
    this.puts.add(put)
  }

  /** Resolves when every pack taken so far is stored (or `failed` was told) and indexed. */
  async finish(): Promise<void> {
    await Promise.all(this.puts)
    await this.writeSegment(this.signal)
  }

  /**
   * Like finish, for a backup that was given up, maybe by its signal: the next one may use what is stored already. Puts
   * that are under way end with `limit` at the latest, and with them what threads still do (`work`), which wait for puts.
   */
  async salvage(limit: AbortSignal, work: Promise<void> = Promise.resolve()): Promise<void> {
    const giveUp = () => this.givenUp.abort()
    limit.addEventListener('abort', giveUp, { once: true })
    await work
    await Promise.all(this.puts)
    limit.removeEventListener('abort', giveUp)
    await this.writeSegment(limit)
  }

  private async put(pack: PackMessage): Promise<void> {
    const name = await this.store(new Uint8Array(pack.buffer, 0, pack.sizeBytes), Buffer.from(pack.name))
    const { buffer, byteOffset, byteLength } = pack.directory
    const directory = Buffer.from(buffer, byteOffset, byteLength)
    this.stored.push({ name, sizeBytes: pack.sizeBytes, directory })
    this.storedDirectoryBytes += byteLength
    this.storedBytes += pack.sizeBytes
    this.newBytes += chunkBytes(directory)
    if (isSegment(this.stored.length, this.storedDirectoryBytes)) await this.writeSegment(this.signal)
  }

  /**
   * Gives the name under which it is stored: the content's hash. After an unclear answer a look settles it. If it is not
   * there, it may still come, so it is never sent again under this name, but sealed anew: another salt, another name.
   */
  private async store(bytes: Uint8Array, hash: Buffer): Promise<Buffer> {
    let sealed = bytes
    let name = hash
    for (let attempt = 1; ; attempt++) {
      const object = packName(name.toString('hex'))
      try {
        const { signal, fromReserve } = this
        await this.state.storage.put(object, sealed, { keep: true, signal, fromReserve })
        return name
      } catch (error) {
        if (!isRegainError(error, 'storage-unavailable')) throw error
        if (await this.isThere(object, name)) return name
        if (attempt === PUT_ATTEMPTS) throw error
      }
      const plain = openObject(this.state.keys, 'P', '', Buffer.from(sealed), object)
      sealed = sealObject(this.state.keys, 'P', '', plain, this.state.ambient.randomBytes(32))
      name = createHash('sha256').update(sealed).digest()
    }
  }

  private async isThere(object: string, hash: Buffer): Promise<boolean> {
    try {
      const bytes = await this.state.storage.get(object, undefined, { signal: this.signal })
      return createHash('sha256').update(bytes).digest().equals(hash)
    } catch (error) {
      if (isRegainError(error) && error.code !== 'interrupted') return false
      throw error
    }
  }

  private async writeSegment(signal: AbortSignal): Promise<void> {
    const packs = this.stored
    if (packs.length === 0) return
    this.stored = []
    this.storedDirectoryBytes = 0
    this.storedBytes += await putIndexSegment(this.state, packs, signal, this.fromReserve)
  }
}

/** In the order given, as many as one index segment is for. */
export function* segments(packs: Iterable<IndexedPack>): Generator<IndexedPack[]> {
  let segment: IndexedPack[] = []
  let bytes = 0
  for (const pack of packs) {
    segment.push(pack)
    bytes += pack.directory.length
    if (!isSegment(segment.length, bytes)) continue
    yield segment
    segment = []
    bytes = 0
  }
  if (segment.length > 0) yield segment
}

function isSegment(packs: number, directoryBytes: number): boolean {
  return packs >= PACKS_PER_SEGMENT || directoryBytes >= BYTES_PER_SEGMENT
}

/** Packs must be durable before. Durable when it resolves, with the segment's bytes as stored. */
export async function putIndexSegment(
  state: RepositoryState,
  packs: readonly IndexedPack[],
  signal: AbortSignal | undefined,
  fromReserve = false,
): Promise<number> {
  const sealed = sealObject(state.keys, 'I', '', encodeIndexSegment(packs), state.ambient.randomBytes(32))
  const name = indexName(createHash('sha256').update(sealed).digest('hex'))
  await state.storage.put(name, sealed, { fromReserve, ...(signal ? { signal } : {}) })
  return sealed.length
}

/** Sum of the chunk lengths in a directory. */
function chunkBytes(directory: Buffer): number {
  const groups = directory.readUInt32LE(0)
  let sum = 0
  for (let at = 8 + groups * 20 + 36; at < directory.length; at += 40) sum += directory.readUInt32LE(at)
  return sum
}
