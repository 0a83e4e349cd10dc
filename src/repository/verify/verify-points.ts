import { throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import type { Entry, Point } from '../../model.ts'
import type { VerifyOptions, VerifyProblem } from '../api.ts'
import { packName } from '../format/object-names.ts'
import { chunkIds, readListing } from '../listing/listing-reader.ts'
import { ChunkReader } from '../packs/chunk-reader.ts'
import { Copies } from '../packs/copies.ts'
import { counts } from '../points/commits.ts'
import type { RepositoryState } from '../repository-state.ts'
import { isLoss } from './damage.ts'
import type { KnownChunks } from './verify-chunks.ts'

const MAX_PATHS = 100
/** Stands among the paths for the point's own listing. */
const LISTING = '(listing)'
/** Stands for the packs that are gone without a trace in the index. */
const NOWHERE = 'the index'

interface PointCheck {
  chunks: KnownChunks
  points: readonly Point[]
  options: VerifyOptions
  problem(found: VerifyProblem): void
}

/** Every chunk of every point is in a sound, listed pack; otherwise the problem names point and paths. */
export async function checkPoints(state: RepositoryState, check: PointCheck): Promise<void> {
  const hurts = new Map<string, VerifyProblem['hurts']>()
  for (const point of check.points) {
    throwIfInterrupted(check.options.signal)
    const damaged = await damagedPaths(state, check, point)
    // Removed on purpose while it was looked at: what it alone needed may be gone.
    if (damaged.size > 0 && !(await counts(state, point.id, check.options.signal))) continue
    for (const [object, paths] of damaged) {
      const list = hurts.get(object) ?? []
      list.push({ point: point.id, source: point.source, paths })
      hurts.set(object, list)
    }
  }
  for (const [object, list] of hurts) {
    const points = list.length === 1 ? 'one point needs' : `${list.length} points need`
    check.problem({
      object,
      kind: 'missing',
      detail:
        object === NOWHERE
          ? `Chunks that ${points} are in no pack and no index segment.`
          : `Chunks that ${points} are lost with ${object}.`,
      hurts: list,
    })
  }
}

/** Object that was lost or damaged, to paths of the point that need it. */
async function damagedPaths(state: RepositoryState, check: PointCheck, point: Point): Promise<Map<string, string[]>> {
  const damaged = new Map<string, string[]>()
  const add = (object: string, path: string) => {
    const paths = damaged.get(object) ?? []
    if (paths.length < MAX_PATHS && paths.at(-1) !== path) paths.push(path)
    damaged.set(object, paths)
  }
  const look = async (id: Buffer, path: string) => {
    const found = await check.chunks.find(id)
    if (found === 'readable') return
    add(found.lostWith === null ? NOWHERE : packName(found.lostWith), path)
  }
  const copies = new Copies(check.chunks.readable, async (_, unindexed) =>
    unindexed ? check.chunks.readable : check.chunks.sound,
  )
  const reader = new ChunkReader(state, copies, check.options.signal)
  const read = async (id: Uint8Array) => {
    await look(Buffer.from(id), LISTING)
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
  look: (id: Buffer, path: string) => Promise<void>,
): Promise<void> {
  const path = displayPath(entry.path)
  for await (const id of chunkIds((list) => read(list), entry)) await look(id, path)
}
