import { throwIfInterrupted } from '../errors.ts'
import { displayPath } from '../filesystem/names.ts'
import type { Entry, Point } from '../model.ts'
import type { VerifyOptions, VerifyProblem } from './api.ts'
import type { ChunkIndex } from './chunk-index.ts'
import { ChunkReader } from './chunk-reader.ts'
import { Copies } from './copies.ts'
import { isLoss } from './damage.ts'
import { packName } from './format/object-names.ts'
import { decodeDirectory } from './format/pack.ts'
import { chunkIds, readListing } from './listing-reader.ts'
import type { RepositoryState } from './repository-state.ts'

const MAX_PATHS = 100
/** Stands among the paths for the point's own listing. */
const LISTING = '(listing)'

/** Packs that fail, and what is lost with them. */
export class BadPacks {
  readonly names = new Set<string>()
  /** Chunk id (hex) to the bad pack that held it. */
  private readonly held = new Map<string, string>()
  /** Chunks (hex) of bad packs that can't be read; the others of a bad pack still can. */
  private readonly lost = new Set<string>()

  addIndexed(pack: string, directory: Buffer, allLost: boolean): void {
    for (const group of decodeDirectory(directory, packName(pack)))
      for (const chunk of group.chunks) {
        const id = chunk.id.toString('hex')
        this.held.set(id, pack)
        if (allLost) this.lost.add(id)
      }
  }

  addLost(ids: Uint8Array): void {
    for (let at = 0; at < ids.length; at += 32) this.lost.add(Buffer.from(ids.subarray(at, at + 32)).toString('hex'))
  }

  /** The bad pack a needed chunk was lost with; null if it was in none, 'readable' if it can still be read from one. */
  lookUp(id: Buffer): string | null | 'readable' {
    const hex = id.toString('hex')
    const pack = this.held.get(hex)
    if (pack === undefined) return null
    return this.lost.has(hex) ? pack : 'readable'
  }
}

interface PointCheck {
  /** Of sound packs. */
  index: ChunkIndex
  /** Of all: a listing page may be readable in a pack that is hurt elsewhere. */
  readable: ChunkIndex
  bad: BadPacks
  points: readonly Point[]
  options: VerifyOptions
  problem(found: VerifyProblem): void
}

/** Every chunk of every point is in a sound, listed pack; otherwise the problem names point and paths. */
export async function checkPoints(state: RepositoryState, check: PointCheck): Promise<void> {
  const hurts = new Map<string, VerifyProblem['hurts']>()
  for (const point of check.points) {
    throwIfInterrupted(check.options.signal)
    for (const [object, paths] of await damagedPaths(state, check, point)) {
      const list = hurts.get(object) ?? []
      list.push({ point: point.id, source: point.source, paths })
      hurts.set(object, list)
    }
  }
  for (const [object, list] of hurts)
    check.problem({
      object,
      kind: 'missing',
      detail: `Chunks that ${list.length} points need are lost with ${object}.`,
      hurts: list,
    })
}

/** Object that was lost or damaged, to paths of the point that need it. */
async function damagedPaths(state: RepositoryState, check: PointCheck, point: Point): Promise<Map<string, string[]>> {
  const damaged = new Map<string, string[]>()
  const add = (object: string, path: string) => {
    const paths = damaged.get(object) ?? []
    if (paths.length < MAX_PATHS && paths.at(-1) !== path) paths.push(path)
    damaged.set(object, paths)
  }
  const look = (id: Buffer, path: string) => {
    if (check.index.has(id)) return
    const where = check.bad.lookUp(id)
    if (where === null) add('the index', path)
    else if (where !== 'readable') add(packName(where), path)
  }
  const copies = new Copies(check.readable, async () => check.index)
  const reader = new ChunkReader(state, copies, check.options.signal)
  const read = (id: Uint8Array) => {
    look(Buffer.from(id), LISTING)
    return reader.read(id)
  }
  try {
    let done = 0
    for await (const entry of readListing(read, point.listing)) {
      if (++done % 1000 === 0) {
        throwIfInterrupted(check.options.signal)
        check.options.progress({ phase: 'checking points', bytesDone: 0, filesDone: done, filesTotal: point.entries })
      }
      await checkEntry(read, entry, look)
    }
  } catch (error) {
    if (!isLoss(error)) throw error
    const isNamed = [...damaged.values()].some((paths) => paths.includes(LISTING))
    if (!isNamed) add('the listing', error.message)
  } finally {
    reader.close()
  }
  return damaged
}

async function checkEntry(
  read: (id: Uint8Array) => Promise<Buffer>,
  entry: Entry,
  look: (id: Buffer, path: string) => void,
): Promise<void> {
  const path = displayPath(entry.path)
  for await (const id of chunkIds((list) => read(list), entry)) look(id, path)
}
