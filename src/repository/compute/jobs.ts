import type { DomainKeys } from '../format/domain-keys.ts'
import type { FinishedPack } from '../packs/pack-builder.ts'
import { checkPack } from './check-pack.ts'
import { compareFiles } from './compare-files.ts'
import type { Job } from './messages.ts'
import { ChunksInOrder, GroupOpener } from './open-groups.ts'
import { patchChunks } from './patch-chunks.ts'
import { readChunks } from './read-chunks.ts'
import { storeFiles, storeRange } from './read-files.ts'
import { closeTargets, restoreFiles } from './restore-files.ts'
import { makeRooms } from './room.ts'
import { SessionStore } from './store.ts'
import { storeBytes } from './store-bytes.ts'

export interface JobResult {
  reply: unknown
  transfer: ArrayBuffer[]
}

/** What one compute thread does with its jobs. Give it one after the other. */
export class JobRunner {
  private readonly keys: DomainKeys
  private readonly localDirectory: string | null
  private readonly opener: GroupOpener
  private readonly rooms = makeRooms()
  private readonly sessions = new Map<number, SessionStore>()
  private readonly randomBytes: (size: number) => Buffer
  private readonly spare: ArrayBuffer[] | undefined
  private readonly finished: (session: number, pack: FinishedPack) => void

  constructor(options: {
    keys: DomainKeys
    localDirectory: string | null
    randomBytes(size: number): Buffer
    /** A pack of a session; its buffer is to be given back when it is stored. */
    finished(session: number, pack: FinishedPack): void
    /** Buffers of packs to be used before new ones are made; each session has its own if left out. */
    spare?: ArrayBuffer[]
  }) {
    this.keys = options.keys
    this.localDirectory = options.localDirectory
    this.randomBytes = options.randomBytes
    this.finished = options.finished
    this.spare = options.spare
    this.opener = new GroupOpener(this.keys, this.localDirectory)
  }

  /** At any time, also while a job runs, which may wait for it. */
  returnBuffer(session: number, buffer: ArrayBuffer): void {
    this.sessions.get(session)?.returnBuffer(buffer)
  }

  async run(job: Job): Promise<JobResult> {
    switch (job.type) {
      case 'begin-session': {
        const store = new SessionStore(this.keys, job, this.randomBytes, (pack) => this.finished(job.session, pack), {
          isLocal: this.localDirectory !== null,
          spare: this.spare,
        })
        this.sessions.set(job.session, store)
        return plain(null)
      }
      case 'end-session':
        this.sessions.delete(job.session)
        // Handles of packs too: a thread that is ended does not close what it opened, and a removed pack keeps its space.
        closeTargets()
        this.opener.close()
        return plain(null)
      case 'files':
        return plain(await storeFiles(this.session(job.session), job))
      case 'range':
        return plain(await storeRange(this.session(job.session), job))
      case 'bytes':
        return plain(await storeBytes(this.session(job.session), job))
      case 'flush':
        this.session(job.session).flush({ dataOnly: job.dataOnly === true })
        return plain(null)
      case 'restore':
        return plain(restoreFiles(this.keys, this.opener, this.rooms, job))
      case 'compare':
        return plain(compareFiles(this.keys, this.rooms, job))
      case 'read-chunks': {
        const reply = readChunks(this.keys, this.opener, this.rooms, job)
        return { reply, transfer: [reply.bytes] }
      }
      case 'patch': {
        const chunks = new ChunksInOrder(this.keys, this.opener, job, this.rooms)
        return plain(await patchChunks(this.session(job.session), chunks, job))
      }
      case 'check-pack':
        return plain(checkPack(this.keys, this.localDirectory, this.rooms, job))
    }
  }

  private session(number: number): SessionStore {
    const found = this.sessions.get(number)
    if (!found) throw new Error(`no session ${number}`)
    return found
  }
}

function plain(reply: unknown): JobResult {
  return { reply, transfer: [] }
}
