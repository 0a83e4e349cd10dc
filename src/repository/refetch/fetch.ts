import { throwIfInterrupted } from '../../errors.ts'
import type { Point } from '../../model.ts'
import type { FetchPlan, FetchReport, FetchStep, Repository, UnmendedProblem, VerifyOptions } from '../api.ts'
import { endName, PREFIX } from '../format/object-names.ts'
import { PackSession } from '../packs/pack-session.ts'
import { readCommits } from '../points/commits.ts'
import { beginSession, giveUpSession } from '../points/write-session.ts'
import type { RepositoryState } from '../repository-state.ts'
import { lostSegment } from '../verify/verify.ts'
import { Cutter } from './cut.ts'
import { Donors } from './donors.ts'
import { availableThere, fetchLog, type LogObject, parseLogObject } from './fetch-log.ts'
import { Holdings } from './holdings.ts'
import type { Mending } from './mend-entry.ts'
import { mendPoint } from './mend-point.ts'

type Options = Pick<VerifyOptions, 'signal' | 'progress'>

const MAX_PATHS = 100
const MAX_PASSES = 3

/** What of these problems another repository of the service may mend: whether it does, ids and seals tell only then. */
export async function planFetch(
  problems: readonly UnmendedProblem[],
  from: Repository,
  signal: AbortSignal,
): Promise<FetchPlan> {
  // Without a generation nothing can be written safely.
  const canWrite = !problems.some(({ object }) => object === PREFIX.generations)
  const sources = new Map<string, boolean>()
  const isHelped = async ({ source }: { source: string }) => {
    if (!sources.has(source)) sources.set(source, (await from.points({ source })).length > 0)
    return canWrite && sources.get(source) === true
  }
  const logObjects = problems.map(({ object }) => parseLogObject(object)).filter((object) => object !== null)
  const log = new Set((await availableThere(logObjects, from)).map(({ object }) => object))
  const plan: FetchPlan = { steps: [], problems: [], left: [] }
  const points = new Set<string>()
  for (const problem of problems) {
    throwIfInterrupted(signal)
    if (problem.hurts.length === 0) {
      plan[log.has(problem.object) ? 'problems' : 'left'].push(problem)
      continue
    }
    const helped: UnmendedProblem['hurts'] = []
    for (const hurt of problem.hurts) if (await isHelped(hurt)) helped.push(hurt)
    const others = problem.hurts.filter((hurt) => !helped.includes(hurt))
    for (const { point } of helped) points.add(point)
    if (helped.length > 0) plan.problems.push({ ...problem, hurts: helped })
    if (others.length > 0) plan.left.push({ ...problem, hurts: others })
  }
  plan.steps = [fetchChunksStep(points), fetchLogStep(log)].filter(({ objects }) => objects.length > 0)
  return plan
}

function fetchChunksStep(points: ReadonlySet<string>): FetchStep {
  const why =
    'What they miss is looked for there by its content, proven, and stored here again under the keys of this place.'
  return { action: 'fetch-chunks', objects: [...points].map(endName), why }
}

function fetchLogStep(objects: ReadonlySet<string>): FetchStep {
  const why = 'The same pieces of the log are there. Nothing that can be read here is replaced.'
  return { action: 'fetch-log', objects: [...objects], why }
}

/**
 * Carries a plan out. Whatever it is cut short by, what was brought back stays, and the next repair goes on from there. What is
 * stored is within a session, like a backup's that is given up in the end: no collector removes it meanwhile, and no key epoch ends.
 */
export async function carryOutFetch(
  state: RepositoryState,
  plan: FetchPlan,
  from: Repository,
  options: Options,
): Promise<FetchReport> {
  const log = plan.problems
    .map(({ object }) => parseLogObject(object))
    .filter((object): object is LogObject => object !== null)
  const { back, alsoLost } = await fetchLog(state, log, from, options.signal)
  const hurt = new Set(plan.problems.flatMap(({ hurts }) => hurts.map(({ point }) => point)))
  const report: FetchReport = { chunks: 0, bytes: 0, logObjects: back.size, left: [] }
  const still = hurt.size === 0 ? new Map<string, Set<string>>() : await fetchPoints(state, hurt, from, report, options)
  report.left = [
    ...plan.problems.flatMap((problem) => whatIsLeft(problem, back, still)),
    ...whatShowed(plan.problems, alsoLost),
  ]
  return report
}

/** Segments of the log that one which is back proved to be lost; what to do is the same for each piece of the log. */
function whatShowed(problems: readonly UnmendedProblem[], alsoLost: ReadonlySet<string>): UnmendedProblem[] {
  const known = new Set(problems.map(({ object }) => object))
  const told = problems.find(({ object }) => object.startsWith(PREFIX.log))
  return [...alsoLost].flatMap((object) =>
    told && !known.has(object) ? [{ ...told, object, kind: 'missing', detail: lostSegment(object) } as const] : [],
  )
}

async function fetchPoints(
  state: RepositoryState,
  hurt: ReadonlySet<string>,
  from: Repository,
  report: FetchReport,
  { signal, progress }: Options,
): Promise<Map<string, Set<string>>> {
  const points = (await readCommits(state, { signal, damaged: () => undefined })).map(({ point }) => point)
  // The newest first: most of what it misses the others miss too, and it is what is asked for first.
  const wanted = points.filter(({ id }) => hurt.has(id)).reverse()
  const left = new Map<string, Set<string>>()
  if (wanted.length === 0) return left
  const filesTotal = wanted.reduce((sum, { entries }) => sum + entries, 0)
  let filesDone = 0
  const tell = () => progress({ phase: 'fetching', bytesDone: report.bytes, filesDone, filesTotal })
  const there = new Map<string, Point[]>()
  for (const { source } of wanted) if (!there.has(source)) there.set(source, await from.points({ source }))

  const session = await beginSession(state, (wanted[0] as Point).source, signal)
  try {
    const holdings = await Holdings.load(state, session.reusable, signal)
    const packs = new PackSession(state, signal, { packCount: session.reusable.packCount() })
    let hasNewPages = false
    const mending: Mending = {
      state,
      holdings,
      session: packs,
      cutter: new Cutter(state.keys),
      fetched: (bytes, metadata) => {
        report.chunks++
        hasNewPages ||= metadata
        report.bytes += bytes
        tell()
      },
    }
    const looked = (entries: number) => {
      filesDone += entries
      tell()
    }
    const mendOne = async (point: Point) => {
      const donors = new Donors({ repository: state.id, point }, from, there.get(point.source) as Point[], signal)
      try {
        left.set(point.id, await mendPoint(mending, point, points, donors, { signal, looked }))
      } finally {
        await donors.close()
      }
      if (hasNewPages) await settle()
    }
    /** Points share most pages, and not each has a donor that could tell what they were. */
    const settle = async () => {
      await packs.flush()
      await holdings.refresh()
      hasNewPages = false
    }
    try {
      let remaining = wanted
      for (let pass = 0; pass < MAX_PASSES && remaining.length > 0; pass++) {
        const before = report.chunks
        for (const point of remaining) await mendOne(point)
        remaining = remaining.filter(({ id }) => left.get(id)?.size !== 0)
        // What one of them lacked in vain, a donor of another may have given since.
        if (report.chunks === before || remaining.length === 0) break
        await settle()
      }
    } catch (error) {
      await packs.giveUp()
      throw error
    } finally {
      holdings.close()
    }
    await packs.finish()
  } finally {
    await giveUpSession(state, session.id, 'a repair, which has no point')
  }
  return left
}

function whatIsLeft(
  problem: UnmendedProblem,
  back: ReadonlySet<string>,
  still: ReadonlyMap<string, ReadonlySet<string>>,
): UnmendedProblem[] {
  if (problem.hurts.length === 0) return back.has(problem.object) ? [] : [problem]
  const hurts = problem.hurts.flatMap((hurt) => {
    const paths = still.get(hurt.point)
    if (paths === undefined || paths.size === 0) return []
    const known = hurt.paths.filter((path) => paths.has(path))
    return [{ ...hurt, paths: known.length > 0 ? known : [...paths].slice(0, MAX_PATHS) }]
  })
  return hurts.length === 0 ? [] : [{ ...problem, hurts }]
}
