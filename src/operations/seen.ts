import { openCatalog, type SeenPlace, type SeenPoint, type SeenRepository } from '../catalog/catalog.ts'
import { describeError } from '../catalog/record.ts'
import type { Point } from '../model.ts'
import { type Comparison, compareWithSeen } from '../policy/set-back.ts'
import type { Repository, VerifyProblem } from '../repository/api.ts'
import type { Application } from './context.ts'

/**
 * This machine's memory of what was at a destination: the one thing that tells when a store was set back to an earlier
 * state, or another repository stands in its place. A convenience like all of the state: without it nothing is compared.
 */

/** Compares what is there with what was seen, and remembers it. What was found gone is told until `acceptLoss`. */
export async function checkSeen(
  application: Application,
  destination: string,
  repository: Repository,
  /** All of the repository, oldest first, read after this was called. */
  readPoints: () => Promise<readonly Point[]>,
): Promise<VerifyProblem[]> {
  return (
    (await withMemory(application, repository, async (memory) => {
      const seen = memory.seen()
      const points = await readPoints()
      const expired = await expiredOf(repository, seen?.points ?? [])
      const comparison = compareWithSeen(seen, { id: repository.id, points, expired })
      memory.update((now) => merged(comparison, seen, now))
      return problemsOf(comparison, destination, repository)
    })) ?? []
  )
}

/** The same for one source that is about to be backed up. All points are read only if one that was seen is not there. */
export async function checkSeenSource(
  application: Application,
  destination: string,
  repository: Repository,
  source: string,
): Promise<string[]> {
  const isSuspicious = await withMemory(application, repository, async (memory) => {
    const seen = memory.seen()
    if (seen === null) return false
    if (seen.id !== repository.id) return true
    const points = seen.points.filter((point) => point.source === source)
    const standings = await Promise.all(points.map(({ point }) => repository.standing(point)))
    return standings.some((standing) => standing !== 'counts')
  })
  if (!isSuspicious) return []
  const problems = await checkSeen(application, destination, repository, () => repository.points())
  return problems.map(({ detail }) => detail)
}

/** After its commit. */
export async function rememberPoint(application: Application, repository: Repository, point: Point): Promise<void> {
  await withMemory(application, repository, async (memory) =>
    memory.update((seen) => {
      if (seen !== null && seen.id !== repository.id) return seen
      const others = (seen?.points ?? []).filter(({ source, isLost }) => isLost || source !== point.source)
      const { id, source, committedAt } = point
      return { id: repository.id, points: [...others, { source, point: id, committedAt, isLost: false }] }
    }),
  )
}

/** After this machine has made it: what was seen at its place before, if anything, is told once and given up. */
export async function rememberMade(application: Application, repository: Repository): Promise<void> {
  await withMemory(application, repository, async (memory) => {
    const before = memory.seen()
    memory.update(() => ({ id: repository.id, points: [] }))
    if (before === null) return
    const { service, location } = repository
    application.ambient.log(
      'error',
      `A new repository of ${service} was made at ${location}, where this machine saw another one before. The points of that one are not here.`,
    )
  })
}

/** A person knows why it is as it is: from now on this is what was seen. Resolves with the points that were given up. */
export async function acceptLoss(application: Application, repository: Repository): Promise<string[]> {
  const accepted = await withMemory(application, repository, async (memory) => {
    const points = await repository.points()
    const { next } = compareWithSeen(null, { id: repository.id, points, expired: new Set() })
    const lost = memory.seen()?.points.filter(({ isLost }) => isLost) ?? []
    memory.update(() => ({ id: next.id, points: [...next.points] }))
    return lost.map(({ point }) => point)
  })
  return accepted ?? []
}

async function expiredOf(repository: Repository, points: readonly SeenPoint[]): Promise<ReadonlySet<string>> {
  const standings = await Promise.all(points.map(({ point }) => repository.standing(point)))
  return new Set(points.filter((_, index) => standings[index] === 'expired').map(({ point }) => point))
}

/** What another process has noted meanwhile is younger than what was compared here, and stays. */
function merged(
  { isOther, next }: Comparison,
  before: SeenRepository | null,
  now: SeenRepository | null,
): SeenRepository {
  if (now !== null && (isOther || now.id !== next.id)) return now
  const known = new Set(before?.points.map(({ point }) => point))
  const news = (now?.points ?? []).filter(({ point }) => !known.has(point))
  const isOutdated = ({ source, isLost }: SeenPoint) => !isLost && news.some((point) => point.source === source)
  return { id: next.id, points: [...next.points.filter((point) => !isOutdated(point)), ...news] }
}

function problemsOf(comparison: Comparison, destination: string, repository: Repository): VerifyProblem[] {
  const { service } = repository
  const accept = `If that was intended: regain repository repair ${service} --destination ${destination} --accept-loss`
  if (comparison.isOther)
    return [
      {
        object: 'repository.json',
        kind: 'changed',
        detail: `The repository of ${service} at ${destination} is not the one that this machine saw there: it was exchanged, or made anew, and the points of the other one are not here. ${accept}`,
        hurts: [],
      },
    ]
  return comparison.lost.map(({ source, point, committedAt }) => ({
    object: `ends/${point}`,
    kind: 'missing' as const,
    detail: `Recovery point ${point} of ${service}/${source}, of ${committedAt}, was at ${destination} and is gone, and nothing says that it was removed on purpose: the store was set back to an earlier state, or objects were removed from it. ${accept}`,
    hurts: [{ point, source, paths: [] }],
  }))
}

interface Memory {
  seen(): SeenRepository | null
  update(change: (seen: SeenRepository | null) => SeenRepository): void
}

/**
 * Null without a usable state file. It is made where there is none: who only verifies remembers as well. What goes wrong with
 * it later must not keep anybody from a backup or a list, so it is as if nothing was seen.
 */
async function withMemory<T>(
  application: Application,
  { service, location }: Repository,
  use: (memory: Memory) => Promise<T>,
): Promise<T | null> {
  const { config, ambient, processId } = application
  const place: SeenPlace = { service, location }
  const attempt = <R>(work: () => R): R | null => {
    try {
      return work()
    } catch (error) {
      const { message } = describeError(error)
      ambient.log('debug', `What was seen before at ${location} can't be compared or noted: ${message}`)
      return null
    }
  }
  const catalog = attempt(() => openCatalog({ directory: config.state, ambient, pid: processId }))
  if (catalog === null) return null
  try {
    return await use({
      seen: () => attempt(() => catalog.seen(place)),
      update: (change) => void attempt(() => catalog.updateSeen(place, change)),
    })
  } finally {
    catalog.close()
  }
}
