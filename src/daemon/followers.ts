import type { Ambient } from '../model.ts'
import type { KeptLogLimit } from '../policy/kept-log.ts'
import { delay } from './delays.ts'
import { type SupervisorOptions, superviseFollower } from './follower.ts'
import { superviseGuard } from './guard.ts'
import { type DaemonWork, nameOf, type SourceName } from './work.ts'

export interface FollowersOptions {
  ambient: Ambient
  signal: AbortSignal
  save: SupervisorOptions['save']
  needsPoint(follower: WantedFollower, reason: string): void
}

/** A source whose log is followed, with a text that changes when its follower must be started anew. */
export interface WantedFollower extends SourceName {
  /** Names of the destinations that its log goes to. */
  destinations: readonly string[]
  /** How much its source may keep meanwhile. */
  limit: KeptLogLimit
  fingerprint: string
}

interface Running {
  fingerprint: string
  controller: AbortController
  ended: Promise<void>
}

/** The followers of the configuration in effect, each with a signal of its own. */
export class Followers {
  readonly #options: FollowersOptions
  readonly #running = new Map<string, Running>()
  readonly #leaving = new Map<string, Promise<void>>()

  constructor(options: FollowersOptions) {
    this.#options = options
  }

  /** Ends those that are gone or have changed, and starts those that are new; the others go on undisturbed. */
  replace(wanted: readonly WantedFollower[], work: DaemonWork): void {
    const byName = new Map(wanted.map((follower) => [nameOf(follower), follower]))
    for (const [key, running] of this.#running) {
      if (byName.get(key)?.fingerprint !== running.fingerprint) this.#end(key, running)
    }
    for (const [key, follower] of byName) {
      if (this.#running.has(key)) continue
      const controller = new AbortController()
      const ended = this.#start(follower, work, controller.signal)
      this.#running.set(key, { fingerprint: follower.fingerprint, controller, ended })
    }
  }

  /** Resolves when all have ended; the signal must have fired. */
  async ended(): Promise<void> {
    await Promise.all([...this.#leaving.values(), ...[...this.#running.values()].map(({ ended }) => ended)])
  }

  #end(key: string, { controller, ended }: Running): void {
    controller.abort()
    this.#running.delete(key)
    const left = Promise.all([this.#leaving.get(key), ended]).then(() => {
      if (this.#leaving.get(key) === left) this.#leaving.delete(key)
    })
    this.#leaving.set(key, left)
  }

  async #start(follower: WantedFollower, work: DaemonWork, own: AbortSignal): Promise<void> {
    const { service, source, limit } = follower
    const name = { service, source }
    // One follower of a source at a time: its predecessor ships its tail before it begins.
    await this.#leaving.get(nameOf(name))
    const { ambient, save } = this.#options
    const signal = AbortSignal.any([this.#options.signal, own])
    const needsPoint = (reason: string) => this.#options.needsPoint(follower, reason)
    const options = { ambient, signal, save, delay, needsPoint }
    await Promise.all([
      superviseFollower(name, (following) => work.follow(name, following), options),
      superviseGuard(name, () => work.guard(name), { ambient, signal, limit, delay }),
    ])
  }
}
