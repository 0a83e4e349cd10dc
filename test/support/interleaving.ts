import { RegainError } from '../../src/errors.ts'
import type { Bytes, Storage, StoredObject } from '../../src/storage/contract.ts'

/** A number from 0 (inclusive) to `below`. */
export type Random = (below: number) => number

/** Fast and repeatable (mulberry32); not for anything secret. */
export function randomFrom(seed: string): Random {
  let state = 2166136261
  for (const unit of seed) state = Math.imul(state ^ (unit.codePointAt(0) as number), 16777619)
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

export function randomBytesFrom(random: Random): (size: number) => Buffer {
  return (size) => Buffer.from(Array.from({ length: size }, () => random(256)))
}

interface Pending {
  process: string
  about: string
  /** Carries the call out. */
  effect(): void
  /** Lets the caller go on with the result, or with the error given. */
  answer(error?: RegainError): void
  isWrite: boolean
}

export interface Chances {
  /** Of each call, in 10,000: its process is never heard of again. */
  crash: number
  /** The call fails, before or after it was carried out. */
  fail: number
}

/**
 * Runs processes that share a store, one store call at a time, in an order that follows from the seed: every call waits until it is
 * picked. Some processes are picked rarely for a while, as if they slept; some crash in the middle of calls, which may be
 * carried out much later all the same. A listing takes two picks: what is made or removed between them may be in it or not.
 */
export class Interleaving {
  readonly objects: Map<string, Buffer>
  /** What happened, to be read when a seed fails. */
  readonly trace: string[] = []
  private readonly random: Random
  private readonly chances: Chances
  /** How long a process sleeps or runs, on average, before that changes: up to whole collections. */
  private readonly sleepSteps: number
  private pending: Pending[] = []
  private readonly running = new Set<string>()
  private readonly crashed = new Set<string>()
  private readonly weights = new Map<string, number>()
  private late: Pending[] = []
  private failure: { error: unknown } | null = null

  constructor(objects: ReadonlyMap<string, Buffer>, random: Random, chances: Chances) {
    this.objects = new Map(objects)
    this.random = random
    this.chances = chances
    this.sleepSteps = [10, 40, 160, 400][random(4)] as number
  }

  isCrashed(process: string): boolean {
    return this.crashed.has(process)
  }

  /** Whether a call of a crashed process may still be carried out. */
  hasLate(process: string): boolean {
    return this.late.some((call) => call.process === process)
  }

  /** `work` must use nothing but the store and computation that ends within one turn. What it throws fails the run. */
  spawn(process: string, work: (storage: Storage) => Promise<void>): void {
    this.running.add(process)
    this.weights.set(process, 4)
    work(this.storage(process)).then(
      () => this.running.delete(process),
      (error: unknown) => {
        this.failure ??= { error }
        this.running.delete(process)
      },
    )
  }

  /** Until every process has ended or crashed, and every call that was under way was carried out or lost. */
  async run(): Promise<void> {
    for (;;) {
      // Nothing else is under way in this thread but what the last answer set off: one turn, and all wait for the store.
      await new Promise((resolve) => setImmediate(resolve))
      if (this.failure) throw this.failure.error
      if (this.random(this.sleepSteps) === 0) this.reweigh()
      if (this.late.length > 0 && this.random(60) === 0) this.deliverLate()
      const next = this.pick()
      if (next) this.step(next)
      else if (this.running.size > 0) throw new Error(`${[...this.running]} wait for something that is not the store`)
      else break
    }
    while (this.late.length > 0) this.deliverLate()
  }

  private reweigh(): void {
    for (const process of this.weights.keys()) this.weights.set(process, [0, 0, 1, 4, 16][this.random(5)] as number)
  }

  private pick(): Pending | null {
    if (this.pending.length === 0) return null
    const weightOf = ({ process }: Pending) => this.weights.get(process) ?? 0
    const total = this.pending.reduce((sum, call) => sum + weightOf(call), 0)
    if (total === 0) return this.take(this.random(this.pending.length))
    let left = this.random(total)
    const index = this.pending.findIndex((call) => {
      left -= weightOf(call)
      return left < 0
    })
    return this.take(index)
  }

  private take(index: number): Pending {
    return this.pending.splice(index, 1)[0] as Pending
  }

  private step(call: Pending): void {
    const dice = this.random(10_000)
    if (dice < this.chances.crash) this.crash(call)
    else if (dice < this.chances.crash + this.chances.fail) {
      const isDone = this.random(2) === 0
      if (isDone) call.effect()
      // A request that was given up may still arrive.
      else if (call.isWrite && this.random(2) === 0) this.late.push(call)
      this.note(call, isDone ? 'done, answer lost' : 'lost')
      call.answer(new RegainError('storage-unavailable', 'The call was made to fail.'))
    } else {
      call.effect()
      this.note(call, '')
      call.answer()
    }
  }

  private crash(call: Pending): void {
    const { process } = call
    this.note(call, 'CRASH')
    this.crashed.add(process)
    this.running.delete(process)
    for (const left of [call, ...this.pending.filter((other) => other.process === process)])
      if (left.isWrite && this.random(2) === 0) this.late.push(left)
    this.pending = this.pending.filter((other) => other.process !== process)
  }

  private deliverLate(): void {
    const [call] = this.late.splice(this.random(this.late.length), 1) as [Pending]
    call.effect()
    this.note(call, 'late')
  }

  private note({ process, about }: Pending, remark: string): void {
    this.trace.push(`${process} ${about}${remark && ` [${remark}]`}`)
  }

  private call<T>(process: string, about: string, isWrite: boolean, work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      let outcome: { value: T } | { error: unknown } | null = null
      this.pending.push({
        process,
        about,
        isWrite,
        effect: () => {
          try {
            outcome = { value: work() }
          } catch (error) {
            outcome = { error }
          }
        },
        answer: (error) => {
          if (error) reject(error)
          else if (outcome && 'value' in outcome) resolve(outcome.value)
          else reject(outcome?.error)
        },
      })
    })
  }

  private storage(process: string): Storage {
    const { objects } = this
    const call = <T>(about: string, isWrite: boolean, work: () => T) => this.call(process, about, isWrite, work)
    const list = (prefix: string) => this.list(process, prefix)
    return {
      description: `memory of ${process}`,
      put: (name, bytes) => {
        const copy = joined(bytes)
        return call(`put ${name}`, true, () => void objects.set(name, copy))
      },
      create: (name, bytes) => {
        const copy = joined(bytes)
        return call(`create ${name}`, true, () => {
          if (objects.has(name)) return false
          objects.set(name, copy)
          return true
        })
      },
      get: (name, range) =>
        call(`get ${name}`, false, () => {
          const object = objects.get(name)
          if (!object) throw new RegainError('storage-not-found', `There is no object ${name}.`)
          return Buffer.from(range ? object.subarray(range.offset, range.offset + range.length) : object)
        }),
      size: (name) => call(`size ${name}`, false, () => objects.get(name)?.length ?? null),
      async *list(prefix) {
        yield* await list(prefix)
      },
      delete: (name) => call(`delete ${name}`, true, () => void objects.delete(name)),
      close: () => Promise.resolve(),
    }
  }

  private async list(process: string, prefix: string): Promise<StoredObject[]> {
    const now = () =>
      new Map(
        [...this.objects].filter(([name]) => name.startsWith(prefix)).map(([name, bytes]) => [name, bytes.length]),
      )
    const before = await this.call(process, `list ${prefix} …`, false, now)
    const after = await this.call(process, `… list ${prefix}`, false, now)
    const listed: StoredObject[] = []
    for (const [name, size] of new Map([...before, ...after]))
      if ((before.has(name) && after.has(name)) || this.random(2) === 0) listed.push({ name, size })
    return listed.sort((a, b) => (a.name < b.name ? -1 : 1))
  }
}

function joined(bytes: Bytes): Buffer {
  return Buffer.concat(bytes instanceof Uint8Array ? [bytes] : bytes)
}
