import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

/** Processes whose parent is `pid`. Each server process leads a session of its own, so no signal finds them all. */
export async function childrenOf(pid: number): Promise<number[]> {
  const children: number[] = []
  // Without /proc there is nobody to wait for that could be found.
  for (const name of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(name)) continue
    if ((await parentOf(Number(name))) === pid) children.push(Number(name))
  }
  return children
}

/** Null if there is no such process. */
async function parentOf(pid: number): Promise<number | null> {
  // It ends while we look (ENOENT, ESRCH), or is hidden from us: either way no child of ours.
  const status = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => null)
  // "pid (name) state ppid ...": the name may hold anything, so look behind its last parenthesis.
  const fields = status?.slice(status.lastIndexOf(')') + 2).split(' ')
  if (!fields || fields[0] === 'Z') return null
  return Number(fields[1])
}

/** Resolves when none of them is alive any more, at the latest after some ten seconds. */
export async function waitUntilGone(pids: number[]): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    const alive = await Promise.all(pids.map(parentOf))
    if (alive.every((parent) => parent === null)) return
    await delay(10)
  }
}

/** False if there is no such process. Signal 0 only asks. */
export function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}
