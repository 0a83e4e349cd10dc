import { RegainError, throwIfInterrupted } from '../../errors.ts'
import { mapBounded } from '../bounded.ts'
import type { IndexedPack } from '../format/index-segment.ts'
import { packName } from '../format/object-names.ts'
import { decodeDirectory, directorySize, FOOTER_BYTES } from '../format/pack.ts'
import { FRAME_BYTES, HEADER_BYTES, Opener, plainSize, SEALED_FRAME_BYTES } from '../format/sealed.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from '../verify/damage.ts'

const READS_AT_ONCE = 8
/** What is read of a pack's end at first: nearly every directory lies in it whole. */
const END_FRAMES = 2

/**
 * What packs that no readable index segment covers say of themselves. Each is read once, however often the index is read
 * again. One that can't be read is told once and left out.
 */
export class PackDirectories {
  private readonly state: RepositoryState
  private readonly signal: AbortSignal | undefined
  private readonly unreadable: (pack: string, error: RegainError) => void
  private readonly known = new Map<string, IndexedPack | null>()
  private news = 0

  constructor(
    state: RepositoryState,
    options: { signal?: AbortSignal | undefined; unreadable?(pack: string, error: RegainError): void } = {},
  ) {
    this.state = state
    this.signal = options.signal
    this.unreadable =
      options.unreadable ?? ((pack, error) => state.ambient.log('error', error.message, { object: packName(pack) }))
  }

  /** `packs`: hex name and size, as listed. */
  async read(packs: readonly (readonly [name: string, sizeBytes: number])[]): Promise<IndexedPack[]> {
    const found = await mapBounded(packs, READS_AT_ONCE, async ([name, sizeBytes]) => {
      const known = this.known.get(name)
      if (known !== undefined) return known
      const pack = await this.attempt(name, sizeBytes)
      this.known.set(name, pack)
      this.news++
      return pack
    })
    return found.filter((pack) => pack !== null)
  }

  /** Packs whose directories were read since the last call. */
  takeNews(): number {
    const news = this.news
    this.news = 0
    return news
  }

  private async attempt(name: string, sizeBytes: number): Promise<IndexedPack | null> {
    throwIfInterrupted(this.signal)
    try {
      return await readPackDirectory(this.state, name, sizeBytes, this.signal)
    } catch (error) {
      if (!isLoss(error)) throw error
      this.unreadable(name, error)
      return null
    }
  }
}

/**
 * The directory at the end of a pack: its header and last frames are read, and what the directory takes beyond them. Every
 * frame is authenticated; that the pack's other bytes are whole is not proven. Rejects with `repository-damaged` or
 * `storage-not-found`.
 */
export async function readPackDirectory(
  state: RepositoryState,
  pack: string,
  sizeBytes: number,
  signal: AbortSignal | undefined,
): Promise<IndexedPack> {
  const name = packName(pack)
  const plainBytes = plainSize(sizeBytes, name)
  if (plainBytes < FOOTER_BYTES) throw new RegainError('repository-damaged', `${name} is too short to be a pack.`)
  const frames = Math.ceil(plainBytes / FRAME_BYTES)
  const read = async (offset: number, end: number) => {
    const length = Math.min(end, sizeBytes) - offset
    const bytes = await state.storage.get(name, { offset, length }, signal ? { signal } : {})
    if (bytes.length !== length) throw new RegainError('repository-damaged', `${name} is shorter than it was.`)
    return bytes
  }
  const readFrames = (first: number, end: number) =>
    read(HEADER_BYTES + first * SEALED_FRAME_BYTES, HEADER_BYTES + end * SEALED_FRAME_BYTES)

  const first = Math.max(0, frames - END_FRAMES)
  const [header, sealedEnd] = await Promise.all([read(0, HEADER_BYTES), readFrames(first, frames)])
  const opener = new Opener(state.keys, 'P', '', header, sizeBytes, name)
  const end = openFrames(opener, first, sealedEnd)
  if (end.readUInt32LE(end.length - 4) !== 0)
    throw new RegainError('repository-version', `${name} ends in a part that this version of Regain does not know.`)
  const directoryBytes = end.readUInt32LE(end.length - FOOTER_BYTES)
  const start = plainBytes - FOOTER_BYTES - directoryBytes
  if (start < 0) throw new RegainError('repository-damaged', `The directory of ${name} can't be found.`)
  const startFrame = Math.floor(start / FRAME_BYTES)
  const before =
    startFrame < first ? openFrames(opener, startFrame, await readFrames(startFrame, first)) : end.subarray(0, 0)
  const all = before.length === 0 ? end : Buffer.concat([before, end])
  const at = start - Math.min(startFrame, first) * FRAME_BYTES
  // A copy: the frames that it came with need not be kept.
  const directory = Buffer.from(all.subarray(at, at + directoryBytes))
  decodeDirectory(directory, name)
  if (directorySize(directory, name) !== directoryBytes)
    throw new RegainError('repository-damaged', `The directory of ${name} contradicts itself.`)
  return { name: Buffer.from(pack, 'hex'), sizeBytes, directory }
}

function openFrames(opener: Opener, first: number, sealed: Buffer): Buffer {
  const plain: Buffer[] = []
  for (let frame = first, at = 0; at < sealed.length; frame++, at += SEALED_FRAME_BYTES)
    plain.push(opener.open(frame, sealed.subarray(at, at + SEALED_FRAME_BYTES)))
  return Buffer.concat(plain)
}
