import type { Catalog, LearnedPoint } from '../catalog/catalog.ts'
import { describeError } from '../catalog/record.ts'
import { isRegainError } from '../errors.ts'
import type { Ambient, Point, PointKind } from '../model.ts'
import { wasHeldBack } from '../operations/gave-way.ts'
import { type Decision, planSchedule, type RunFact, type ScheduleRule } from '../policy/schedule.ts'
import type { JobQueue } from './job-queue.ts'
import { type DaemonWork, nameOf, type SourceName } from './work.ts'

export interface Scheduler {
  /** Starts what is due; resolves to the milliseconds until it should be asked again, at most a minute. */
  turn(): Promise<number>
  /** A point of this source is needed now, whatever its schedule says; taken with the next turns until it succeeds. */
  demand(job: BackupJob, reason: string): void
  /** Takes the rules and the work of a new configuration; what runs goes on. */
  replace(rules: readonly ScheduleRule[], work: DaemonWork): void
}

/** A source, and one destination of its points. */
export interface BackupJob extends SourceName {
  destination: string
}

export interface SchedulerOptions {
  rules: readonly ScheduleRule[]
  work: DaemonWork
  catalog(): Catalog
  queue: JobQueue
  ambient: Ambient
  signal: AbortSignal
  /** Called after a job has ended. */
  onEnd(): void
}

/** The plan is made anew at least so often: clocks are set, machines sleep, and other processes end their runs. */
const LONGEST_WAIT_MS = 60_000
/**
 * A job that failed is not begun again sooner, whatever the policy says: it decides by what the state file knows, and a
 * failure may be that nothing could be noted there.
 */
const PAUSE_AFTER_FAILURE_MS = 30_000
/** Enough for every attempt of several days; older runs decide nothing. */
const RUNS_CONSIDERED = 300

/** Backups by schedule: asks the policy, and has the work done through the queue. */
export function createScheduler(options: SchedulerOptions): Scheduler {
  const { ambient, queue, signal } = options
  let { rules, work } = options
  /** Services and destinations whose points are known; until then, nobody knows whether a backup is owed. */
  const learned = new Set<string>()
  /** The last thing said about a source, so that it is said once. */
  const said = new Map<string, string>()
  const pausedUntil = new Map<string, number>()
  /** Why a point is needed now, by source and destination. */
  const demanded = new Map<string, { job: BackupJob; reason: string }>()

  return {
    demand(job, reason) {
      demanded.set(jobOf(job), { job, reason })
    },
    replace(newRules, newWork) {
      rules = newRules
      work = newWork
      learned.clear()
    },
    async turn() {
      for (const rule of rules) await learn(rule)
      const known = rules.filter((rule) => learned.has(placeOf(rule)))
      const now = ambient.now()
      const { decisions, wakeAt } = planSchedule(known, facts(known), now)
      for (const decision of decisions) act(decision)
      // The log can't wait for a window, nor for a schedule where there is none.
      for (const { job, reason } of demanded.values())
        act({ rule: { ...job, kind: 'incremental' }, state: 'due', at: now, reason, windowChangesAt: null })
      return Math.max(0, Math.min(LONGEST_WAIT_MS, (wakeAt ?? Infinity) - now))
    },
  }

  /** Reads a repository's points once, so that a lost state file does not look like a service without a backup. */
  async function learn(rule: ScheduleRule): Promise<void> {
    const { service, destination } = rule
    const place = placeOf(rule)
    if (learned.has(place) || signal.aborted) return
    try {
      const points = await work.points(service, destination)
      const count = options.catalog().learnPoints(points.map((point) => toLearned(point, destination)))
      learned.add(place)
      said.delete(place)
      if (count > 0) ambient.log('info', 'Points were learned from the repository.', { place, points: count })
    } catch (error) {
      const { code, message } = describeError(error)
      const told = `No backups are started, because the repository cannot be asked: ${message}`
      if (said.get(place) === told) return
      said.set(place, told)
      ambient.log('error', told, { place, code })
    }
  }

  function facts(known: readonly ScheduleRule[]): RunFact[] {
    const sources = new Map(known.map((rule) => [nameOf(rule), rule]))
    return [...sources.values()].flatMap((name) => {
      if (!queue.has(nameOf(name))) noticeCutShort(name)
      const { service, source } = name
      const runs = options.catalog().runs({ operation: 'backup', service, source, limit: RUNS_CONSIDERED })
      return runs.map((run) => ({ ...run, destination: run.destination ?? '', kind: run.kind ?? 'incremental' }))
    })
  }

  /** A run that is called running though nobody has the source's lock was cut short; taking the lock notes that. */
  function noticeCutShort({ service, source }: SourceName): void {
    const newest = options.catalog().runs({ operation: 'backup', service, source, limit: 10 })
    if (!newest.some((run) => run.outcome === 'running')) return
    options.catalog().tryLockSource(service, source, 'regain serve, looking')?.release()
  }

  function act({ rule, state, at, reason, windowChangesAt }: DueBackup): void {
    const name = nameOf(rule)
    const key = jobOf(rule)
    if (state !== 'due' || (pausedUntil.get(key) ?? 0) > ambient.now()) return
    const run = async () => {
      const about = { source: name, destination: rule.destination, kind: rule.kind }
      ambient.log('info', 'A backup begins.', { ...about, reason })
      const window = openWindow(windowChangesAt)
      try {
        const bounds = { since: at ?? ambient.now(), signal: AbortSignal.any([signal, window.closed]) }
        const startedMs = ambient.now()
        const taken = await work.backup(rule, rule.destination, { kind: rule.kind, ...bounds })
        const { point, trouble, gaveWayMs = 0 } = taken
        demanded.delete(key)
        tellPoint(point, wasHeldBack(gaveWayMs, ambient.now() - startedMs) ? { ...about, gaveWayMs } : about)
        if (trouble !== null) ambient.log('error', trouble.message, { ...about, code: trouble.code })
      } catch (error) {
        const { code, message } = describeError(error)
        if (window.closed.aborted && !signal.aborted) {
          ambient.log('warning', 'The backup was ended with its window; it goes on when that opens again.', about)
          return
        }
        pausedUntil.set(key, ambient.now() + PAUSE_AFTER_FAILURE_MS)
        // The source is no longer in the configuration.
        if (isRegainError(error, 'usage')) demanded.delete(key)
        // Someone runs it by hand at this moment: that run serves as well, or the next turn finds it still owed.
        const level = isRegainError(error, 'precondition-failed') || signal.aborted ? 'warning' : 'error'
        ambient.log(level, `The backup did not succeed: ${message}`, { ...about, code })
      } finally {
        window.forget()
        options.onEnd()
      }
    }
    queue.offer(name, run)
  }

  /** What was stored until the window closes is used when the run goes on: nothing is read twice that is unchanged. */
  function openWindow(closesAt: number | null): { closed: AbortSignal; forget(): void } {
    const closed = new AbortController()
    if (closesAt === null) return { closed: closed.signal, forget() {} }
    const timer = setTimeout(() => closed.abort(), Math.max(0, closesAt - ambient.now()))
    return { closed: closed.signal, forget: () => clearTimeout(timer) }
  }

  function tellPoint(point: Point, about: Record<string, unknown>): void {
    // What was asked for may not be what was taken: a source that can't tell what changed reads everything.
    const fields = { ...about, kind: point.kind, point: point.id, stored: point.bytes.stored }
    if (point.complete) ambient.log('info', 'The backup is complete.', fields)
    else
      ambient.log('warning', 'The backup is incomplete: things are missing from it.', {
        ...fields,
        missed: point.missedCount,
      })
  }
}

/** Of a decision of the policy, what a backup is begun with. */
type DueBackup = Omit<Decision, 'rule'> & { rule: BackupJob & { kind: PointKind } }

function jobOf(rule: BackupJob): string {
  return `${nameOf(rule)}@${rule.destination}`
}

function placeOf({ service, destination }: ScheduleRule): string {
  return `${service}@${destination}`
}

function toLearned(point: Point, destination: string): LearnedPoint {
  return {
    destination,
    service: point.service,
    source: point.source,
    kind: point.kind,
    point: point.id,
    startedAt: Date.parse(point.startedAt),
    committedAt: Date.parse(point.committedAt),
    missed: point.missedCount,
    bytes: point.bytes,
    files: point.entries,
  }
}
