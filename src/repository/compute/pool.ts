import { Worker } from 'node:worker_threads'
import { type ErrorCode, RegainError } from '../../errors.ts'
import type {
  BeginSessionJob,
  EndSessionJob,
  FlushJob,
  FromThread,
  Job,
  ThreadError,
  ThreadSetup,
  ToThread,
} from './messages.ts'

/** Jobs handed to one thread ahead of time, so that it never waits for the main thread. */
const JOBS_AHEAD = 2

export type PackMessage = Extract<FromThread, { type: 'pack' }>

/** What others may ask of it. */
export type Pool = Pick<ComputePool, keyof ComputePool>

interface Waiting {
  id: number
  job: Job
  transfer: ArrayBuffer[]
  resolve(reply: unknown): void
  reject(error: unknown): void
}

interface Thread {
  worker: Worker
  running: Map<number, Waiting>
  /** Sessions that it has heard of. */
  sessions: Set<number>
}

/** Threads that compute. Starts each when there is work for it; a thread that dies fails its jobs and the pool. Bounded by its callers. */
export class ComputePool {
  readonly threadCount: number
  private readonly setup: ThreadSetup
  private threads: Thread[] = []
  private readonly queue: Waiting[] = []
  private readonly packListeners = new Map<
    number,
    (pack: PackMessage, giveBack: (buffer: ArrayBuffer) => void) => void
  >()
  /** By session, for threads that have not heard of it yet. */
  private readonly begun = new Map<number, BeginSessionJob>()
  private nextId = 1
  private sessions = 0
  private dead: Error | null = null
  private closing = false

  constructor(setup: ThreadSetup, threadCount: number) {
    this.setup = setup
    this.threadCount = threadCount
  }

  /** Starts every thread now, for who knows that there will be work for it: that takes as long as much of a small backup. */
  startThreads(): void {
    while (!this.dead && this.threads.length < this.threadCount) this.startThread()
  }

  /** A number that no other session of this pool has. */
  newSession(): number {
    return ++this.sessions
  }

  /** The session's jobs may follow: each thread hears of it right before its first one. */
  begin(job: BeginSessionJob): void {
    this.begun.set(job.session, job)
  }

  /** Runs a job on any thread. */
  run<Reply>(job: Job, transfer: ArrayBuffer[] = []): Promise<Reply> {
    return new Promise((resolve, reject) => {
      this.queue.push({ id: this.nextId++, job, transfer, resolve: resolve as (reply: unknown) => void, reject })
      this.dispatch()
    })
  }

  /** Runs a job on one thread, behind what it has been given already. */
  runOn<Reply>(index: number, job: Job, transfer: ArrayBuffer[] = []): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const waiting = { id: this.nextId++, job, transfer, resolve: resolve as (reply: unknown) => void, reject }
      if (this.dead) return reject(this.dead)
      while (this.threads.length <= index) this.startThread()
      this.give(this.threads[index] as Thread, waiting)
    })
  }

  /** Finishes the session's packs on every thread that had a job of it. */
  async flush(job: FlushJob): Promise<void> {
    await this.runOnEach(job, ({ sessions }) => sessions.has(job.session))
  }

  /** Clears a session away, and on every thread what it keeps open between jobs. */
  async end(job: EndSessionJob): Promise<void> {
    this.begun.delete(job.session)
    for (const { sessions } of this.threads) sessions.delete(job.session)
    await this.runOnEach(job, () => true)
  }

  private async runOnEach(job: Job, wants: (thread: Thread) => boolean): Promise<void> {
    if (this.dead) throw this.dead
    await Promise.all(this.threads.map((thread, index) => wants(thread) && this.runOn(index, job)))
  }

  /** Packs that threads finish in this session, until the returned function is called. */
  onPack(session: number, listener: (pack: PackMessage, giveBack: (buffer: ArrayBuffer) => void) => void): () => void {
    this.packListeners.set(session, listener)
    return () => this.packListeners.delete(session)
  }

  /** Drops a session's waiting jobs: rejected with `interrupted`. What runs ends soon, because every job is small (at most 64 MiB). */
  drop(session: number): void {
    const kept: Waiting[] = []
    for (const waiting of this.queue.splice(0))
      if ('session' in waiting.job && waiting.job.session === session)
        waiting.reject(new RegainError('interrupted', 'The operation was interrupted.'))
      else kept.push(waiting)
    this.queue.push(...kept)
  }

  /** What still runs or waits is rejected with `interrupted`, and so is every later job. */
  async close(): Promise<void> {
    this.closing = true
    this.die(new RegainError('interrupted', 'The repository was closed while it was in use.'))
    await Promise.all(this.threads.map(({ worker }) => worker.terminate()))
    this.threads = []
  }

  private startThread(): void {
    const worker = new Worker(new URL('./thread.ts', import.meta.url), {
      workerData: this.setup,
      // Handles are opened through the C library and closed by node, which its tracking takes for a mistake.
      trackUnmanagedFds: false,
    })
    const thread: Thread = { worker, running: new Map(), sessions: new Set() }
    worker.on('message', (message: FromThread) => this.receive(thread, message))
    worker.on('error', (error) => this.die(error instanceof Error ? error : new Error(String(error))))
    worker.on('exit', (status) => {
      if (!this.closing) this.die(new Error(`A compute thread ended by itself (status ${status}).`))
    })
    // An idle pool must not keep the process alive; running jobs hold it by their promises' owners.
    worker.unref()
    this.threads.push(thread)
  }

  private receive(thread: Thread, message: FromThread): void {
    if (message.type === 'pack') {
      const giveBack = (buffer: ArrayBuffer) =>
        thread.worker.postMessage({ type: 'buffer', session: message.session, buffer } satisfies ToThread, [buffer])
      this.packListeners.get(message.session)?.(message, giveBack)
      return
    }
    const waiting = thread.running.get(message.id)
    thread.running.delete(message.id)
    if (thread.running.size === 0) thread.worker.unref()
    if (message.type === 'done') waiting?.resolve(message.reply)
    else waiting?.reject(toError(message.error))
    this.dispatch()
  }

  private dispatch(): void {
    while (this.queue.length > 0) {
      if (this.dead) {
        this.queue.shift()?.reject(this.dead)
        continue
      }
      if (this.threads.length < this.threadCount && this.threads.every(({ running }) => running.size > 0))
        this.startThread()
      const thread = this.idlest()
      if (!thread || thread.running.size >= JOBS_AHEAD) return
      this.give(thread, this.queue.shift() as Waiting)
    }
  }

  private idlest(): Thread | undefined {
    let best: Thread | undefined
    for (const thread of this.threads) if (!best || thread.running.size < best.running.size) best = thread
    return best
  }

  private give(thread: Thread, waiting: Waiting): void {
    if ('session' in waiting.job) this.tell(thread, waiting.job)
    this.post(thread, waiting)
  }

  private tell(thread: Thread, { type, session }: Extract<Job, { session: number }>): void {
    const begin = this.begun.get(session)
    if (begin === undefined || type === 'end-session' || thread.sessions.has(session)) return
    thread.sessions.add(session)
    // Should it fail, so does the job behind it: it finds no session.
    const ignore = () => undefined
    this.post(thread, { id: this.nextId++, job: begin, transfer: [], resolve: ignore, reject: ignore })
  }

  private post(thread: Thread, waiting: Waiting): void {
    thread.running.set(waiting.id, waiting)
    thread.worker.ref()
    thread.worker.postMessage({ type: 'job', id: waiting.id, job: waiting.job } satisfies ToThread, waiting.transfer)
  }

  private die(error: Error): void {
    this.dead ??= error
    for (const thread of this.threads) {
      for (const waiting of thread.running.values()) waiting.reject(error)
      thread.running.clear()
    }
    for (const waiting of this.queue.splice(0)) waiting.reject(error)
  }
}

function toError(error: ThreadError): Error {
  if (error.code !== null)
    return new RegainError(error.code as ErrorCode, error.message, error.hint === undefined ? {} : { hint: error.hint })
  const internal = new Error(error.message)
  if (error.stack !== undefined) internal.stack = error.stack
  return internal
}
