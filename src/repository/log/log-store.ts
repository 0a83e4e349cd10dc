import { createHash } from 'node:crypto'
import { isRegainError, RegainError } from '../../errors.ts'
import type { SourceLog } from '../api.ts'
import { mapBounded } from '../bounded.ts'
import { isRemoving, joinRanges, readTrims } from '../collector/trim-log.ts'
import { FIRST_EPOCH } from '../format/domain-keys.ts'
import { lastComponent, PREFIX } from '../format/object-names.ts'
import { HEADER_BYTES, Opener, openObject, SEALED_FRAME_BYTES, sealObject } from '../format/sealed.ts'
import { epochOf, isLeftOverTail, requireCurrentEpoch, tailComponent, tailPlace } from '../keys/epochs.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isDamage } from '../verify/damage.ts'
import { isOwner, OWNER_HISTORY } from './log-owner.ts'
import { decodeLogHead, decodeLogPiece, encodeLogPiece, type Piece, type PieceMeta } from './log-piece.ts'

/**
 * docs/format.md, Log. Objects of their own, sealed with their name as context:
 *
 *   log/SOURCE/segments/BRANCH/NAME
 *   log/SOURCE/tails/BRANCH/NAME/OFFSET      OFFSET: 10 decimal digits, of the piece's first byte in the segment; in key
 *                                            epochs after the first with -EPOCH, so that each epoch writes names of its own
 *   log/SOURCE/histories/NAME
 *
 * Their plaintext: log-piece.ts. Segments have one name for one content for ever: create-if-absent, and an existing one must
 * hold equal bytes, unless it is damaged. Collectors may remove only what lies before the start of every point of the branch
 * (docs/decisions/0005).
 */
const READS_AT_ONCE = 8
const CREATE_ATTEMPTS = 3

export function sourceLog(state: RepositoryState, source: string): SourceLog {
  return new Log(state, source)
}

class Log implements SourceLog {
  private readonly state: RepositoryState
  private readonly source: string
  private readonly prefix: string
  /** The tail that was stored last. */
  private last: { object: string; length: number; sha256: string } | null = null

  constructor(state: RepositoryState, source: string) {
    this.state = state
    this.source = source
    this.prefix = `${PREFIX.log}${source}/`
  }

  async putSegment(branch: string, name: string, bytes: Buffer, meta: PieceMeta): Promise<void> {
    await this.createOnce(`${this.prefix}segments/${branch}/${name}`, 'L', bytes, meta)
    await requireCurrentEpoch(this.state)
  }

  async putTail(branch: string, name: string, offset: number, bytes: Buffer, meta: { until: string }): Promise<void> {
    const { epoch } = this.state.keys
    const object = `${this.prefix}tails/${branch}/${name}/${tailComponent({ offset, epoch })}`
    await this.storeTail(object, bytes, meta)
    await requireCurrentEpoch(this.state)
  }

  private async storeTail(object: string, bytes: Buffer, meta: { until: string }): Promise<void> {
    const sealed = this.seal(object, 'L', bytes, meta)
    if (!this.isLongerThanLast(object, bytes)) {
      if (await this.state.storage.create(object, sealed)) return this.remember(object, bytes)
      if (await this.hasAsMuch(object, bytes, meta)) return
    }
    await this.state.storage.put(object, sealed)
    this.remember(object, bytes)
  }

  /** The usual case, told without a look at the store: the piece that this process stored last, grown. */
  private isLongerThanLast(object: string, bytes: Buffer): boolean {
    const { last } = this
    return last?.object === object && last.sha256 === digest(bytes.subarray(0, last.length))
  }

  private remember(object: string, bytes: Buffer): void {
    this.last = { object, length: bytes.length, sha256: digest(bytes) }
  }

  /**
   * After a restart the server sends a piece again, at first less of it than was durable before: a longer piece never
   * gives way to a shorter one. Rejects with `log-conflict` if they contradict each other.
   */
  private async hasAsMuch(object: string, bytes: Buffer, meta: { until: string }): Promise<boolean> {
    let existing: Piece | null
    try {
      existing = await this.readObject(object, 'L')
    } catch (error) {
      // What is damaged helps nobody: the piece from the source takes its place.
      if (isDamage(error)) return false
      throw error
    }
    if (!existing) return false
    const common = Math.min(existing.bytes.length, bytes.length)
    if (!existing.bytes.subarray(0, common).equals(bytes.subarray(0, common))) throw conflict(object)
    if (existing.bytes.length !== bytes.length) return existing.bytes.length > bytes.length
    return existing.meta.until >= meta.until
  }

  async dropTails(branch: string, name: string): Promise<void> {
    const tails: string[] = []
    for await (const object of this.state.storage.list(`${this.prefix}tails/${branch}/${name}/`))
      tails.push(object.name)
    // From the end: what is left after a crash in the middle is still a run from the beginning.
    for (const tail of tails.sort().reverse()) await this.state.storage.delete(tail)
  }

  async putHistory(name: string, bytes: Buffer): Promise<void> {
    await this.createOnce(`${this.prefix}histories/${name}`, 'H', bytes, { until: '' })
    await requireCurrentEpoch(this.state)
  }

  async list(): Promise<Awaited<ReturnType<SourceLog['list']>>> {
    const segments: { branch: string; name: string }[] = []
    const pieces = new Map<string, { branch: string; name: string; offsets: number[] }>()
    const histories: string[] = []
    for await (const object of this.state.storage.list(this.prefix)) {
      const [kind, ...rest] = object.name.slice(this.prefix.length).split('/') as [string, ...string[]]
      if (kind === 'segments') segments.push({ branch: rest[0] as string, name: rest[1] as string })
      if (kind === 'histories') histories.push(rest[0] as string)
      if (kind !== 'tails') continue
      const [branch, name, offset] = rest as [string, string, string]
      const known = pieces.get(`${branch}/${name}`) ?? { branch, name, offsets: [] }
      known.offsets.push(tailPlace(offset).offset)
      pieces.set(`${branch}/${name}`, known)
    }
    await this.withoutLeftOvers(segments)
    const whole = new Set(segments.map(({ branch, name }) => `${branch}/${name}`))
    const unfinished = [...pieces.entries()].filter(([key]) => !whole.has(key)).map(([, piece]) => piece)
    const tails = await mapBounded(unfinished, READS_AT_ONCE, async ({ branch, name }) => {
      const piece = await this.readTails(branch, name)
      return { branch, name, available: piece?.bytes.length ?? 0 }
    })
    return {
      segments: segments.sort(byPlace),
      tails: tails.filter((tail) => tail.available > 0).sort(byPlace),
      histories: histories.sort(),
    }
  }

  /**
   * A follower that slept through a rekey may have put a segment in the epoch that had ended, which it never told durable.
   * It can only be the last of its branch, or whoever went on would have put that one; who goes on must get it again.
   */
  private async withoutLeftOvers(segments: { branch: string; name: string }[]): Promise<void> {
    if (this.state.keys.epoch === FIRST_EPOCH) return
    segments.sort(byPlace)
    for (let i = segments.length - 1; i >= 0; ) {
      const last = segments[i] as { branch: string; name: string }
      if (await this.isLeftOver(last.branch, last.name)) segments.splice(i--, 1)
      else while (i >= 0 && segments[i]?.branch === last.branch) i--
    }
  }

  private async isLeftOver(branch: string, name: string): Promise<boolean> {
    const epoch = await epochOf(this.state, `${this.prefix}segments/${branch}/${name}`)
    return epoch !== null && epoch < this.state.keyring.oldest
  }

  async holds(branch: string, name: string): Promise<boolean> {
    if ((await this.state.storage.size(`${this.prefix}segments/${branch}/${name}`)) === null) return false
    return this.state.keys.epoch === FIRST_EPOCH || !(await this.isLeftOver(branch, name))
  }

  async read(branch: string, name: string): Promise<(Piece & { whole: boolean }) | null> {
    const segment = await this.readObject(`${this.prefix}segments/${branch}/${name}`, 'L')
    if (segment) return { ...segment, whole: true }
    const tails = await this.readTails(branch, name)
    // Finished between the two looks: its tails may have been dropped, some or all, while they were read.
    const again = await this.readObject(`${this.prefix}segments/${branch}/${name}`, 'L')
    if (again) return { ...again, whole: true }
    return tails ? { ...tails, whole: false } : null
  }

  async readUntil(pieces: readonly { branch: string; name: string }[]): Promise<(string | null)[]> {
    return mapBounded(pieces, READS_AT_ONCE, async ({ branch, name }) => {
      const object = `${this.prefix}segments/${branch}/${name}`
      try {
        return (await this.readMeta(object))?.until ?? (await this.read(branch, name))?.meta.until ?? null
      } catch (error) {
        if (!isDamage(error)) throw error
        this.state.ambient.log('error', `How far the log reaches can't be told: ${error.message}`, { object })
        return null
      }
    })
  }

  async trimmed(signal: AbortSignal): Promise<{ branch: string; from: string; to: string }[]> {
    const trims = await readTrims(this.state, this.source, signal)
    return joinRanges([...trims.values()].flatMap(({ ranges }) => ranges))
  }

  async removing(signal: AbortSignal): Promise<{ branch: string; from: string; to: string }[]> {
    const trims = await readTrims(this.state, this.source, signal)
    return joinRanges([...trims.values()].flatMap((trim) => (isRemoving(this.state, trim) ? trim.ranges : [])))
  }

  async readHistory(name: string): Promise<Buffer | null> {
    return (await this.readObject(`${this.prefix}histories/${name}`, 'H'))?.bytes ?? null
  }

  private async createOnce(object: string, kind: 'L' | 'H', bytes: Buffer, meta: PieceMeta): Promise<void> {
    for (let attempt = 0; attempt < CREATE_ATTEMPTS; attempt++) {
      if (await this.state.storage.create(object, this.seal(object, kind, bytes, meta), { keep: true })) return
      const existing = await this.readOrMend(object, kind, bytes, meta)
      if (existing && !existing.bytes.equals(bytes)) throw conflict(object)
      if (existing) return
      // Removed between the two calls.
    }
    throw new RegainError(
      'storage-unavailable',
      `${object} could not be stored: it was there and gone again ${CREATE_ATTEMPTS} times in a row.`,
    )
  }

  /**
   * What cannot be opened contradicts nothing and helps nobody, and whoever puts it holds its bytes, perhaps the last that
   * anybody does: they take its place. But `system`, whose log this is, must not change hands by that.
   */
  private async readOrMend(object: string, kind: 'L' | 'H', bytes: Buffer, meta: PieceMeta): Promise<Piece | null> {
    try {
      return await this.readObject(object, kind)
    } catch (error) {
      if (!isDamage(error)) throw error
      // Sealed in an epoch that began since: not damaged, and not to be replaced.
      await requireCurrentEpoch(this.state)
      const isOwners = lastComponent(object) !== OWNER_HISTORY || (await isOwner(this.state, this.source, bytes))
      if (kind === 'H' && !isOwners) throw unknownOwner(object, error)
      await this.state.storage.put(object, this.seal(object, kind, bytes, meta))
      const message = `A DAMAGED PART OF THE LOG WAS REPLACED by the bytes that the source still had: ${error.message} Find out what damages objects there.`
      this.state.ambient.log('warning', message, { object })
      return { bytes, meta }
    }
  }

  /** The longest run from the beginning that the pieces give; pieces may overlap. */
  private async readTails(branch: string, name: string): Promise<Piece | null> {
    const names: string[] = []
    for await (const object of this.state.storage.list(`${this.prefix}tails/${branch}/${name}/`))
      names.push(object.name)
    const pieces: Buffer[] = []
    let until = ''
    let end = 0
    for (const object of names.sort()) {
      if (isLeftOverTail(this.state, object)) continue
      const { offset } = tailPlace(lastComponent(object))
      if (offset > end) break
      const piece = await this.readTail(object)
      if (!piece) break
      if (offset + piece.bytes.length <= end) continue
      pieces.push(piece.bytes.subarray(end - offset))
      end = offset + piece.bytes.length
      until = piece.meta.until
    }
    return pieces.length === 0 ? null : { bytes: Buffer.concat(pieces), meta: { until } }
  }

  /** One that is damaged ends what there is: its follower puts it again, and a recovery goes as far as what is before it. */
  private async readTail(object: string): Promise<Piece | null> {
    try {
      return await this.readObject(object, 'L')
    } catch (error) {
      if (!isDamage(error)) throw error
      const message = `The newest part of the log is damaged: ${error.message} What comes before it counts.`
      this.state.ambient.log('error', message, { object })
      return null
    }
  }

  private seal(object: string, kind: 'L' | 'H', bytes: Buffer, meta: PieceMeta): Buffer {
    const plain = encodeLogPiece({ bytes, meta })
    return sealObject(this.state.keys, kind, object, plain, this.state.ambient.randomBytes(32))
  }

  private async readObject(object: string, kind: 'L' | 'H'): Promise<Piece | null> {
    const sealed = await this.get(object)
    return sealed && decodeLogPiece(openObject(this.state.keys, kind, object, sealed, object), object)
  }

  /** Of a segment's first frame: the others are not read, and nothing is decompressed. */
  private async readMeta(object: string): Promise<PieceMeta | null> {
    const size = await this.state.storage.size(object)
    if (size === null) return null
    const length = Math.min(size, HEADER_BYTES + SEALED_FRAME_BYTES)
    const sealed = await this.get(object, { offset: 0, length })
    if (sealed === null) return null
    if (sealed.length < length) throw new RegainError('repository-damaged', `${object} was cut while it was read.`)
    const opener = new Opener(this.state.keys, 'L', object, sealed.subarray(0, HEADER_BYTES), size, object)
    return decodeLogHead(opener.open(0, sealed.subarray(HEADER_BYTES)), object).meta
  }

  private async get(object: string, range?: { offset: number; length: number }): Promise<Buffer | null> {
    try {
      return await this.state.storage.get(object, range)
    } catch (error) {
      if (isRegainError(error, 'storage-not-found')) return null
      throw error
    }
  }
}

function conflict(object: string): RegainError {
  return new RegainError(
    'log-conflict',
    `${object} is already in the repository with other content. It was left as it is; the new content was not stored.`,
  )
}

function unknownOwner(object: string, cause: RegainError): RegainError {
  return new RegainError(
    'repository-damaged',
    `${object} is damaged, which says what server this log is of, and no recovery point of the source names this one. Nothing was stored.`,
    {
      cause,
      hint: 'Bring it back from another destination: regain repository repair. Or give the server a source of its own.',
    },
  )
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

function byPlace(a: { branch: string; name: string }, b: { branch: string; name: string }): number {
  if (a.branch !== b.branch) return a.branch < b.branch ? -1 : 1
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}
