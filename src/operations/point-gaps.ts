import { isRegainError } from '../errors.ts'
import type { Point } from '../model.ts'
import type { Repository, VerifyProblem } from '../repository/api.ts'
import type { Application, PointGap } from './context.ts'

/**
 * What the engine can't know: some points are of no use without log of their own backup, whatever else is whole. Where a
 * store lost that, there may be nothing left that tells of it but the point's own positions.
 */
export async function findGaps(
  application: Application,
  repository: Repository,
  source: string | undefined,
): Promise<VerifyProblem[]> {
  const problems: VerifyProblem[] = []
  for (const [name, points] of Map.groupBy(await repository.points(), (point) => point.source)) {
    if (source !== undefined && name !== source) continue
    for (const [sourceType, alike] of Map.groupBy(points, (point) => point.sourceType))
      problems.push(...(await gapsOf(application, repository, name, sourceType, alike)))
  }
  return problems
}

/** Those that the engine reported as missing already are told once, with the points they hurt. */
export function withGaps(problems: readonly VerifyProblem[], gaps: readonly VerifyProblem[]): VerifyProblem[] {
  const named = new Set(gaps.map(({ object }) => object))
  return [...problems.filter(({ object, kind }) => kind !== 'missing' || !named.has(object)), ...gaps]
}

async function gapsOf(
  application: Application,
  repository: Repository,
  source: string,
  sourceType: string,
  points: readonly Point[],
): Promise<VerifyProblem[]> {
  const prefix = `log/${source}/`
  try {
    const gaps = await lastingGaps(application, repository, source, sourceType, points)
    return [...Map.groupBy(gaps, ({ branch, segment }) => `${prefix}segments/${branch}/${segment}`)].map(
      ([object, alike]) => ({
        object,
        kind: 'missing' as const,
        detail: alike.map(({ detail }) => detail).join(' '),
        hurts: alike.map(({ point }) => ({ point, source, paths: [] })),
      }),
    )
  } catch (error) {
    if (!isRegainError(error, 'repository-damaged')) throw error
    return [{ object: prefix, kind: 'changed', detail: error.message, hurts: [] }]
  }
}

/**
 * Looked for twice: a segment is whole between two looks at it, or a point is removed on purpose while the log is listed.
 * What points need was there before they were, and goes after them.
 */
async function lastingGaps(
  { drivers }: Application,
  repository: Repository,
  source: string,
  sourceType: string,
  points: readonly Point[],
): Promise<PointGap[]> {
  const log = repository.log(source)
  const found = new Set((await drivers.pointGaps(sourceType, log, points)).map(({ point }) => point))
  if (found.size === 0) return []
  const lasting = await drivers.pointGaps(
    sourceType,
    log,
    points.filter(({ id }) => found.has(id)),
  )
  const standings = await Promise.all(lasting.map(({ point }) => repository.standing(point)))
  return lasting.filter((_, index) => standings[index] === 'counts')
}
