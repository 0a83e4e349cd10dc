import { JobRunner } from '../../src/repository/compute/jobs.ts'
import type { Job } from '../../src/repository/compute/messages.ts'
import type { PackMessage, Pool } from '../../src/repository/compute/pool.ts'
import type { DomainKeys } from '../../src/repository/format/domain-keys.ts'

/** Of all pools: a new one of 40 MB for each pack would be most of the work. */
const spare: ArrayBuffer[] = []

/**
 * What compute threads do, done in this one: the same jobs, one after the other, with randomness from a seed. Nothing then
 * happens at a moment of its own, so that a test which decides the order of everything else decides all of it.
 */
export function inlinePool(keys: DomainKeys, randomBytes: (size: number) => Buffer): Pool {
  const listeners = new Map<number, (pack: PackMessage, giveBack: (buffer: ArrayBuffer) => void) => void>()
  const runner = new JobRunner({
    keys,
    localDirectory: null,
    spare,
    randomBytes,
    finished: (session, pack) =>
      listeners.get(session)?.({ type: 'pack', session, ...pack }, (buffer) => runner.returnBuffer(session, buffer)),
  })
  let sessions = 0
  let running: Promise<unknown> = Promise.resolve()

  function run<Reply>(job: Job): Promise<Reply> {
    const result = running.then(() => runner.run(job))
    running = result.catch(() => undefined)
    return result.then(({ reply }) => reply as Reply)
  }

  return {
    threadCount: 1,
    startThreads: () => undefined,
    newSession: () => ++sessions,
    run,
    runOn: (_thread, job) => run(job),
    begin(job) {
      void run(job)
    },
    async flush(job) {
      await run(job)
    },
    async end(job) {
      await run(job)
    },
    onPack(session, listener) {
      listeners.set(session, listener)
      return () => listeners.delete(session)
    },
    drop: () => undefined,
    close: () => Promise.resolve(),
  }
}
