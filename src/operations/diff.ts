import { throwIfInterrupted } from '../errors.ts'
import { comparePaths, type Entry, type EntryPath } from '../model.ts'
import type { Application, Reporting } from './context.ts'
import { findPoint, withPoint } from './find-point.ts'

export interface DiffRequest {
  from: string
  to: string
}

/** `content`: bytes, type or link target differ. `attributes`: only owner, mode, times or extended attributes do. */
export interface Difference {
  change: 'added' | 'removed' | 'content' | 'attributes'
  path: EntryPath
  entryType: Entry['type']
  sizeBefore: number | null
  sizeAfter: number | null
}

/**
 * Walks the listings of two points side by side and hands over what differs, in the order of paths; memory stays flat.
 * `onDifference` returns false to end early.
 */
export async function diffPoints(
  application: Application,
  request: DiffRequest,
  reporting: Reporting,
  onDifference: (difference: Difference) => boolean,
): Promise<void> {
  const before = await findPoint(application, request.from, reporting)
  const after = await findPoint(application, request.to, reporting)
  // Chunk ids of two repositories cannot be compared: each has its own keys.
  const hasSameKeys = before.service === after.service && before.destination === after.destination
  await withPoint(application, before, reporting, (from) =>
    withPoint(application, after, reporting, async (to) => {
      for await (const pair of pairs(from.entries(), to.entries())) {
        throwIfInterrupted(reporting.signal)
        const difference = compare(pair, hasSameKeys)
        if (difference !== null && !onDifference(difference)) return
      }
    }),
  )
}

interface Pair {
  before: Entry | null
  after: Entry | null
}

/** Entries of two listings with equal paths brought together. */
export async function* pairs(
  before: AsyncIterableIterator<Entry>,
  after: AsyncIterableIterator<Entry>,
): AsyncGenerator<Pair> {
  try {
    let left = await before.next()
    let right = await after.next()
    while (!left.done || !right.done) {
      const order = left.done ? 1 : right.done ? -1 : comparePaths(left.value.path, right.value.path)
      yield { before: order <= 0 ? left.value : null, after: order >= 0 ? right.value : null }
      if (order <= 0) left = await before.next()
      if (order >= 0) right = await after.next()
    }
  } finally {
    await before.return?.()
    await after.return?.()
  }
}

function compare({ before, after }: Pair, hasSameKeys: boolean): Difference | null {
  const entry = (after ?? before)!
  const difference = (change: Difference['change']): Difference => ({
    change,
    path: entry.path,
    entryType: entry.type,
    sizeBefore: before?.size ?? null,
    sizeAfter: after?.size ?? null,
  })
  if (before === null) return difference('added')
  if (after === null) return difference('removed')
  if (contentOf(before, hasSameKeys) !== contentOf(after, hasSameKeys)) return difference('content')
  return attributesOf(before) === attributesOf(after) ? null : difference('attributes')
}

function contentOf(entry: Entry, hasSameKeys: boolean): string {
  const { type, size, hardLink, target, major, minor, extents } = entry
  const chunks = hasSameKeys ? [entry.chunks, entry.chunkLists, extents] : type === 'file' ? entry.mtime : ''
  return JSON.stringify([type, size, hardLink, target, major, minor, chunks])
}

function attributesOf({ mode, uid, gid, mtime, xattrs = {} }: Entry): string {
  return JSON.stringify([mode, uid, gid, mtime, Object.entries(xattrs).sort()])
}
