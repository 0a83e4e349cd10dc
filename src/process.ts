import { readFileSync, readlinkSync } from 'node:fs'
import type { Ambient } from './model.ts'

/**
 * Who this process is, among all of every host and time: the kernel's boot id, the namespace that its number is of, the
 * number, and when it began in ticks since boot (proc(5): numbers are used again, this pair is not). Nothing where there is no /proc.
 */
export function thisProcess(): Pick<Ambient, 'process'> {
  try {
    const place = `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${readlinkSync('/proc/self/ns/pid')}`
    const identity = `${place} ${process.pid} ${startTicks(process.pid)}`
    return { process: { identity, isAlive: (other) => isAlive(place, other) } }
  } catch {
    // Not Linux, or no /proc: whoever asks waits, as for a process of another host.
    return {}
  }
}

function isAlive(place: string, identity: string): boolean | null {
  if (!identity.startsWith(`${place} `)) return null
  const [pid, ticks] = identity.slice(place.length + 1).split(' ')
  try {
    return startTicks(Number(pid)) === ticks
  } catch {
    return isNumberFree(Number(pid)) ? false : null
  }
}

/** /proc may hide the processes of other users (hidepid), whereas this tells apart what is not there and what may not be touched. */
function isNumberFree(pid: number): boolean {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

/** Field 22 of /proc/PID/stat, counted after the name, which may hold anything. A zombie's work is over. */
function startTicks(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : (fields[19] as string)
}
