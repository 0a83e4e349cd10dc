import { type FollowerRow, lockDaemon } from '../catalog/catalog.ts'
import { describeError } from '../catalog/record.ts'
import { RegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import type { ScheduleRule } from '../policy/schedule.ts'
import { Alarm, delay } from './delays.ts'
import { Followers, type WantedFollower } from './followers.ts'
import { JobQueue } from './job-queue.ts'
import { createPruner, type PruneRule } from './pruner.ts'
import { createScheduler } from './scheduler.ts'
import { DaemonState } from './state.ts'
import type { DaemonWork } from './work.ts'

/** What a configuration asks of the daemon. */
export interface DaemonPlan {
  /** Path of the configuration. */
  config: string
  /** State directory. A reload cannot change it. */
  state: string
  rules: readonly ScheduleRule[]
  prunes: readonly PruneRule[]
  followers: readonly WantedFollower[]
  work: DaemonWork
}

export interface ServeOptions {
  version: string
  processId: number
  /** `log` is the daemon's own: see daemonLog. */
  ambient: Ambient
  /** Fires at SIGTERM or SIGINT. */
  stop: AbortSignal
  /** Calls back at every SIGHUP until the returned function is called. */
  onReload(listener: () => void): () => void
  /** Reads the configuration: at the start, and at every reload. */
  plan(): Promise<DaemonPlan>
  /** How long a stop may take, in ms; for tests. Default 20 s. */
  stopLimitMs?: number
  /** Tells the service manager; see notify.ts. */
  notify(state: 'ready' | 'reloading' | 'alive' | 'stopping'): void
}

const HEARTBEAT_MS = 5_000
/** Followers ship their tails and backups give their sessions up in this time, or are left to end with the process. */
const STOP_LIMIT_MS = 20_000
const BACKUPS_AT_ONCE = 1

/**
 * Runs followers and schedules until `stop` fires, then resolves when all has ended cleanly. Rejects with
 * `precondition-failed` if another daemon runs with the same state directory, or if something did not end in time.
 */
export async function serve(options: ServeOptions): Promise<void> {
  const { ambient, processId } = options
  const plan = await options.plan()
  const lock = lockDaemon({ directory: plan.state, ambient, pid: processId })
  try {
    const state = new DaemonState(plan.state, ambient, processId)
    try {
      await run(options, plan, state)
    } finally {
      state.close()
    }
  } finally {
    lock.release()
  }
}

async function run(options: ServeOptions, first: DaemonPlan, state: DaemonState): Promise<void> {
  const { ambient, stop, version, processId: pid } = options
  const startedAt = ambient.now()
  const saveDaemon = (stoppedAt: number | null) => {
    const row = { pid, version, config: first.config, startedAt, heartbeatAt: ambient.now(), stoppedAt }
    state.note((catalog) => catalog.saveDaemon(row))
  }

  const alarm = new Alarm()
  const queue = new JobQueue(BACKUPS_AT_ONCE, stop)
  const { rules, work } = first
  const onEnd = () => alarm.ring()
  const scheduler = createScheduler({ rules, work, catalog: () => state.catalog, queue, ambient, signal: stop, onEnd })
  const pruner = createPruner({
    rules: first.prunes,
    work,
    catalog: () => state.catalog,
    queue,
    ambient,
    signal: stop,
    onEnd,
  })
  const save = (row: FollowerRow) => state.note((catalog) => catalog.saveFollower(row))
  const needsPoint = ({ service, source, destinations }: WantedFollower, reason: string) => {
    for (const destination of destinations) scheduler.demand({ service, source, destination }, reason)
    alarm.ring()
  }
  const followers = new Followers({ ambient, signal: stop, save, needsPoint })

  let isReloadAsked = false
  const unsubscribe = options.onReload(() => {
    isReloadAsked = true
    alarm.ring()
  })
  ambient.log('info', 'regain serve has started.', {
    config: first.config,
    followers: first.followers.length,
    schedules: first.rules.length,
  })
  saveDaemon(null)
  const heart = beat(options, () => saveDaemon(null))
  followers.replace(first.followers, work)
  options.notify('ready')

  try {
    while (!stop.aborted) {
      if (isReloadAsked) {
        isReloadAsked = false
        await reload()
      }
      await alarm.wait(await turn(), stop)
    }
  } finally {
    unsubscribe()
  }

  ambient.log('info', 'Stopping: logs are shipped to their end, running backups are given up.', {
    backups: queue.running,
  })
  options.notify('stopping')
  const ended = Promise.all([followers.ended(), queue.idle(), heart])
  await withinLimit(ended, options.stopLimitMs ?? STOP_LIMIT_MS)
  saveDaemon(ambient.now())
  ambient.log('info', 'regain serve has stopped.')

  async function turn(): Promise<number> {
    try {
      // Backups first: what is due together with one is pruned after it.
      const backups = await scheduler.turn()
      return Math.min(backups, pruner.turn())
    } catch (error) {
      // Without its memory the policy would call every backup owed; followers go on, and the next turn tries again.
      ambient.log('error', `The schedule could not be looked at: ${describeError(error).message}`)
      state.note((catalog) => catalog.daemon())
      return HEARTBEAT_MS
    }
  }

  async function reload(): Promise<void> {
    options.notify('reloading')
    try {
      const plan = await options.plan()
      if (plan.state !== first.state) {
        throw new RegainError('config-invalid', 'The state directory cannot change while regain serve runs.', {
          hint: 'Restart regain serve to use another state directory.',
        })
      }
      scheduler.replace(plan.rules, plan.work)
      pruner.replace(plan.prunes, plan.work)
      followers.replace(plan.followers, plan.work)
      const counts = { followers: plan.followers.length, schedules: plan.rules.length }
      ambient.log('info', 'The configuration was read again and is in effect.', { config: plan.config, ...counts })
    } catch (error) {
      const { code, message } = describeError(error)
      ambient.log('error', `THE NEW CONFIGURATION WAS REFUSED, THE OLD ONE STAYS IN EFFECT: ${message}`, { code })
    }
    options.notify('ready')
  }
}

async function beat({ stop, notify }: ServeOptions, write: () => void): Promise<void> {
  while (!stop.aborted) {
    await delay(HEARTBEAT_MS, stop)
    if (stop.aborted) return
    write()
    notify('alive')
  }
}

async function withinLimit(work: Promise<unknown>, limitMs: number): Promise<void> {
  const timer = new AbortController()
  const late = delay(limitMs, timer.signal).then(() => 'late' as const)
  const outcome = await Promise.race([work, late])
  timer.abort()
  if (outcome !== 'late') return
  throw new RegainError(
    'precondition-failed',
    `Something did not end within ${limitMs / 1000} seconds and is left to end with the process. ` +
      'Nothing half-done is visible, and the log will be followed on from where it is durable.',
    { hint: 'If this comes again, please report it with the output of regain serve --verbose.' },
  )
}
