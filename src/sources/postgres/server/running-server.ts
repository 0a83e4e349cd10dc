import { readFile, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { ifAbsent } from '../../../filesystem/system-error.ts'
import { signalProcess } from './processes.ts'
import { RUN_PREFIX } from './run-directory.ts'

/** A server that runs on a data directory, whoever started it. */
export interface FoundServer {
  pid: number
  port: number
  socketDirectory: string
}

const FAST_MS = 30_000
const IMMEDIATE_MS = 10_000
const KILL_MS = 5000
const LOOK_MS = 25

/**
 * Who runs on `directory`, by its postmaster.pid: process, data directory, start time, port and socket folder, one a
 * line (src/include/utils/pidfile.h). Null if nobody does, or the file was left by a crash.
 */
export async function findRunningServer(directory: string): Promise<FoundServer | null> {
  const text = await readFile(join(directory, 'postmaster.pid'), 'utf8').catch(ifAbsent(''))
  const [pid, , , port, socketDirectory] = text.split('\n')
  const found = { pid: Number(pid), port: Number(port), socketDirectory: socketDirectory ?? '' }
  if (!(found.pid > 1) || !(found.port > 0) || !signalProcess(found.pid, 0)) return null
  return found
}

/** Ends it: fast, then immediate, then by kill, and removes the run folder that `startServer` made for it, unless that is in the
 * data directory. */
export async function stopRunningServer(server: FoundServer): Promise<void> {
  for (const [signal, waitMs] of [
    ['SIGINT', FAST_MS],
    ['SIGQUIT', IMMEDIATE_MS],
    ['SIGKILL', KILL_MS],
  ] as const) {
    if (await endsAfter(server.pid, signal, waitMs)) break
  }
  const run = dirname(server.socketDirectory)
  if (basename(run).startsWith(RUN_PREFIX)) await rm(run, { recursive: true, force: true })
}

async function endsAfter(pid: number, signal: NodeJS.Signals, waitMs: number): Promise<boolean> {
  if (!signalProcess(pid, signal)) return true
  for (let waitedMs = 0; waitedMs < waitMs; waitedMs += LOOK_MS) {
    await delay(LOOK_MS)
    if (!signalProcess(pid, 0)) return true
  }
  return false
}
