import { isRegainError } from '../errors.ts'
import { type Ambient, type Entry, originOf, type Point } from '../model.ts'
import type { OpenPoint, PointSession, Repository, StartPoint } from '../repository/api.ts'
import { isCutIntoPages, Walk } from '../repository/repository.ts'
import type { Reporting } from './context.ts'
import { commitOrDiscard } from './sessions.ts'

/**
 * Brings a point from one repository into another without its source: every chunk is proven as it is read, and sealed
 * under the other one's own keys. Nothing is visible there before all of it is durable; what an interrupted copy had
 * stored already is used by the next. Files that the last copied point holds alike are neither read nor stored.
 */
export async function copyPoint(
  ambient: Ambient,
  from: Repository,
  to: Repository,
  id: string,
  reporting: Reporting,
  options: {
    unneeded?: NonNullable<StartPoint['unneeded']>
    /** What is to be done once there is a session for the copy, and before it is committed. */
    begun?(point: Point): Promise<unknown>
  } = {},
): Promise<Point> {
  const { signal } = reporting
  const original = await from.openPoint(id, { signal })
  try {
    const { point } = original
    const session = await to.startPoint({
      source: point.source,
      sourceType: point.sourceType,
      kind: point.kind,
      tool: point.tool,
      copyOf: { repository: from.id, point },
      ...(options.unneeded ? { unneeded: options.unneeded } : {}),
      signal,
      progress: () => {},
    })
    return await commitOrDiscard(ambient, session, signal, async () => {
      await options.begun?.(point)
      await fill(from, to, original, session, reporting)
      const { kind, root, positions, bytes } = point
      // What the original misses is in it, and goes with it.
      return { kind, root, positions, sourceBytes: bytes.source, missed: [] }
    })
  } finally {
    await original.close()
  }
}

async function fill(
  from: Repository,
  to: Repository,
  original: OpenPoint,
  session: PointSession,
  reporting: Reporting,
): Promise<void> {
  const earlier = await openEarlier(from, to, session, reporting.signal)
  try {
    const reuse = new WeakMap<Entry, Entry>()
    const entries = earlier === null ? original.entries() : findAlike(original, earlier, session, reuse)
    await copyEntries(original, entries, session, reuse, reporting)
  } finally {
    await earlier?.close()
  }
}

/** The point here of which the other repository's newest is a copy: what both hold alike is there already. */
async function openEarlier(
  from: Repository,
  to: Repository,
  session: PointSession,
  signal: AbortSignal,
): Promise<OpenPoint | null> {
  if (session.base === null) return null
  const origin = originOf(session.base.point, to.id)
  const points = await from.points({ source: session.base.point.source })
  const earlier = points.find((point) => {
    const { repository, point: id } = originOf(point, from.id)
    return repository === origin.repository && id === origin.point
  })
  if (earlier === undefined) return null
  try {
    return await from.openPoint(earlier.id, { signal })
  } catch (error) {
    // Removed between the two calls: then all is read.
    if (isRegainError(error, 'point-not-found')) return null
    throw error
  }
}

/** Walks three listings side by side. An entry with the chunks of its earlier self has the copy's content for its own. */
async function* findAlike(
  original: OpenPoint,
  earlier: OpenPoint,
  session: PointSession,
  reuse: WeakMap<Entry, Entry>,
): AsyncGenerator<Entry, void, undefined> {
  const before = new Walk(earlier.entries())
  const copied = new Walk((session.base as NonNullable<PointSession['base']>).entries())
  try {
    for await (const entry of original.entries()) {
      const old = await before.at(entry.path)
      const copy = await copied.at(entry.path)
      if (old && copy && copy.type === 'file' && copy.size === entry.size && hasSameContent(old, entry))
        reuse.set(entry, copy)
      yield entry
    }
  } finally {
    await before.close()
    await copied.close()
  }
}

function hasSameContent(old: Entry, entry: Entry): boolean {
  return (
    hasContent(entry) &&
    old.chunks === entry.chunks &&
    old.chunkLists === entry.chunkLists &&
    JSON.stringify(old.extents) === JSON.stringify(entry.extents)
  )
}

function hasContent(entry: Entry): boolean {
  return entry.chunks !== undefined || entry.chunkLists !== undefined
}

async function copyEntries(
  original: OpenPoint,
  entries: AsyncIterable<Entry>,
  session: PointSession,
  reuse: WeakMap<Entry, Entry>,
  reporting: Reporting,
): Promise<void> {
  const { point } = original
  const total = { bytesTotal: point.bytes.source, filesTotal: point.entries }
  let bytesDone = 0
  let filesDone = 0
  let stream: Awaited<ReturnType<PointSession['addStream']>> | null = null
  const wants = (entry: Entry) => hasContent(entry) && !reuse.has(entry)
  for await (const { entry, bytes } of original.contents(entries, wants)) {
    if (bytes !== null) {
      stream ??= await session.addStream(withoutChunks(entry), chunkingOf(point, entry))
      await stream.write(bytes)
      bytesDone += bytes.length
      continue
    }
    if (stream !== null) await stream.end()
    else if (reuse.has(entry)) await addAlike(original, entry, reuse.get(entry) as Entry, session)
    else await session.add(withoutChunks(entry))
    stream = null
    filesDone++
    if (reuse.has(entry)) bytesDone += entry.size ?? 0
    reporting.progress({ phase: 'copying', bytesDone, filesDone, ...total })
  }
}

/** Its chunks may be marked for removal there: then it is read after all. */
async function addAlike(original: OpenPoint, entry: Entry, copy: Entry, session: PointSession): Promise<void> {
  if (await session.addUnchanged(withoutContent(entry), copy)) return
  const stream = await session.addStream(withoutChunks(entry), chunkingOf(original.point, entry))
  for await (const { bytes } of original.contents(one(entry), () => true)) if (bytes !== null) await stream.write(bytes)
  await stream.end()
}

async function* one(entry: Entry): AsyncGenerator<Entry, void, undefined> {
  yield entry
}

/** As the source's driver had it (src/sources/contract.ts, addStream). */
function chunkingOf({ sourceType }: Point, entry: Entry): 'pages' | 'content' | 'dump' {
  if (sourceType === 'postgres') return isCutIntoPages(entry) ? 'pages' : 'content'
  return sourceType === 'postgres-dump' || sourceType === 'postgres-tenants' ? 'dump' : 'content'
}

/** Chunk ids mean nothing in another repository. */
function withoutChunks(entry: Entry): Entry {
  const { chunks: _, chunkLists: __, ...rest } = entry
  return rest
}

function withoutContent(entry: Entry): Entry {
  const { extents: _, ...rest } = withoutChunks(entry)
  return rest
}
