import { randomBytes } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { RegainError } from '../../errors.ts'
import { deriveKeyRing } from '../format/domain-keys.ts'
import { JobRunner } from './jobs.ts'
import type { FromThread, Job, ThreadError, ThreadSetup, ToThread } from './messages.ts'

/** A compute thread: takes jobs one after the other. Started by pool.ts. */
const setup = workerData as ThreadSetup
const keys = deriveKeyRing(
  Buffer.from(setup.domain),
  Buffer.from(setup.identity),
  setup.keys.map(({ epoch, key }) => ({ epoch, key: Buffer.from(key) })),
)
const port = parentPort as NonNullable<typeof parentPort>
const runner = new JobRunner({
  keys,
  localDirectory: setup.localDirectory,
  randomBytes,
  finished: (session, { name, buffer, sizeBytes, directory }) =>
    send({ type: 'pack', session, name, buffer, sizeBytes, directory }, [buffer, directory.buffer as ArrayBuffer]),
})

let running: Promise<void> = Promise.resolve()

port.on('message', (message: ToThread) => {
  if (message.type === 'buffer') runner.returnBuffer(message.session, message.buffer)
  else running = running.then(() => take(message.id, message.job))
})

async function take(id: number, job: Job): Promise<void> {
  try {
    const { reply, transfer } = await runner.run(job)
    send({ type: 'done', id, reply }, transfer)
  } catch (error) {
    send({ type: 'failed', id, error: describeError(error) }, [])
  }
}

function send(message: FromThread, transfer: ArrayBuffer[]): void {
  port.postMessage(message, transfer)
}

function describeError(error: unknown): ThreadError {
  if (error instanceof RegainError) return { code: error.code, message: error.message, hint: error.hint }
  const { message, stack } = error as Error
  return stack === undefined ? { code: null, message } : { code: null, message, stack }
}
