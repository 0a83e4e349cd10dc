import { randomBytes } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { RegainError } from '../../errors.ts'
import { deriveKeyRing } from '../format/domain-keys.ts'
import { checkPack } from './check-pack.ts'
import type { BeginSessionJob, FromThread, Job, ThreadError, ThreadSetup, ToThread } from './messages.ts'
import { GroupOpener } from './open-groups.ts'
import { patchChunks } from './patch-chunks.ts'
import { openChunks, readChunks } from './read-chunks.ts'
import { storeFiles, storeRange } from './read-files.ts'
import { closeTargets, restoreFiles } from './restore-files.ts'
import { makeRooms } from './room.ts'
import { SessionStore } from './store.ts'
import { storeBytes } from './store-bytes.ts'

/** A compute thread: takes jobs one after the other. Started by pool.ts. */
const setup = workerData as ThreadSetup
const keys = deriveKeyRing(
  Buffer.from(setup.domain),
  Buffer.from(setup.identity),
  setup.keys.map(({ epoch, key }) => ({ epoch, key: Buffer.from(key) })),
)
const opener = new GroupOpener(keys, setup.localDirectory)
const rooms = makeRooms()
const sessions = new Map<number, SessionStore>()
const port = parentPort as NonNullable<typeof parentPort>

let running: Promise<void> = Promise.resolve()

port.on('message', (message: ToThread) => {
  if (message.type === 'buffer') sessions.get(message.session)?.returnBuffer(message.buffer)
  else running = running.then(() => take(message.id, message.job))
})

async function take(id: number, job: Job): Promise<void> {
  try {
    const { reply, transfer } = await run(job)
    send({ type: 'done', id, reply }, transfer)
  } catch (error) {
    send({ type: 'failed', id, error: describeError(error) }, [])
  }
}

async function run(job: Job): Promise<{ reply: unknown; transfer: ArrayBuffer[] }> {
  switch (job.type) {
    case 'begin-session':
      sessions.set(job.session, beginSession(job))
      return plain(null)
    case 'end-session':
      sessions.delete(job.session)
      // Handles of packs too: a thread that is ended does not close what it opened, and a removed pack keeps its space.
      closeTargets()
      opener.close()
      return plain(null)
    case 'files':
      return plain(await storeFiles(session(job.session), job))
    case 'range':
      return plain(await storeRange(session(job.session), job))
    case 'bytes':
      return plain(await storeBytes(session(job.session), job))
    case 'flush':
      session(job.session).flush()
      return plain(null)
    case 'restore':
      return plain(restoreFiles(keys, opener, rooms, job))
    case 'read-chunks': {
      const reply = readChunks(keys, opener, rooms, job)
      return { reply, transfer: [reply.bytes] }
    }
    case 'patch':
      return plain(await patchChunks(session(job.session), openChunks(keys, opener, rooms, job), job))
    case 'check-pack':
      return plain(checkPack(keys, setup.localDirectory, rooms, job))
  }
}

function plain(reply: unknown): { reply: unknown; transfer: ArrayBuffer[] } {
  return { reply, transfer: [] }
}

function session(number: number): SessionStore {
  const found = sessions.get(number)
  if (!found) throw new Error(`no session ${number}`)
  return found
}

function beginSession(job: BeginSessionJob): SessionStore {
  return new SessionStore(keys, job, randomBytes, (pack) =>
    send(
      {
        type: 'pack',
        session: job.session,
        name: pack.name,
        buffer: pack.buffer,
        sizeBytes: pack.sizeBytes,
        directory: pack.directory,
      },
      [pack.buffer],
    ),
  )
}

function send(message: FromThread, transfer: ArrayBuffer[]): void {
  port.postMessage(message, transfer)
}

function describeError(error: unknown): ThreadError {
  if (error instanceof RegainError) return { code: error.code, message: error.message, hint: error.hint }
  const { message, stack } = error as Error
  return stack === undefined ? { code: null, message } : { code: null, message, stack }
}
