import { closeSync, openSync, readSync } from 'node:fs'

/**
 * How much of the processors a backup may take beside others: all of them while nobody else has work, what the others leave
 * idle while there is some, and next to nothing when there is none. Decided a few times a second, from what the machine's
 * processors did since the last time.
 */

/** Processor time of the whole machine since it was started, in nanoseconds of all processors together. */
export interface ProcessorTimes {
  busyNs: bigint
  idleNs: bigint
}

/** Shares of all processors together, between two looks: they add up to 1. */
export interface ProcessorUse {
  /** Everybody but this process; also the server that sends it what it backs up. */
  others: number
  idle: number
}

/**
 * Below it, the others are no more than the work that a backup makes for them: a PostgreSQL server of this machine takes a
 * sixth of what both need together, the kernel some more to write the packs.
 */
const COMPANY = 0.25
/** Room that is left to others, so that they need not wait: above the first there is more to be had, below the second less. */
const PLENTY_IDLE = 0.15
const LITTLE_IDLE = 0.1

/** The share that may be taken until the next look, `floor` at least. */
export function nextShare(share: number, { others, idle }: ProcessorUse, floor: number): number {
  if (others < COMPANY) return 1
  if (idle > PLENTY_IDLE) return Math.min(1, share + idle / 2)
  // Halved each time: a server that becomes busy has its processors back within a second or two.
  if (idle < LITTLE_IDLE) return Math.max(floor, share / 2)
  return share
}

/** Null if no time has passed. Time that a hypervisor gave to other machines is nobody's. */
export function useBetween(before: ProcessorTimes, after: ProcessorTimes, ownNs: bigint): ProcessorUse | null {
  const idleNs = after.idleNs - before.idleNs
  const busyNs = after.busyNs - before.busyNs
  const total = Number(idleNs + busyNs)
  if (total <= 0) return null
  // Counted in ticks, ours exactly: what is below nothing by it is nothing.
  const others = Math.max(0, Number(busyNs - ownNs))
  return { others: others / total, idle: Number(idleNs) / total }
}

/** USER_HZ, in which Linux counts for programs on every architecture of ours. */
const TICK_NS = 10_000_000n
const line = Buffer.alloc(256)

/** Null where the system does not tell. */
export function readProcessorTimes(): ProcessorTimes | null {
  try {
    const fd = openSync('/proc/stat', 'r')
    try {
      return parseProcessorTimes(line.toString('latin1', 0, readSync(fd, line, 0, line.length, 0)))
    } finally {
      closeSync(fd)
    }
  } catch {
    // Nothing that a backup needs: it then keeps to the limits that are set.
    return null
  }
}

/** The first line of /proc/stat, proc(5): "cpu  user nice system idle iowait irq softirq steal guest guest_nice". */
export function parseProcessorTimes(text: string): ProcessorTimes | null {
  const found = /^cpu +(\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)/.exec(text)
  if (found === null) return null
  const [user, nice, system, idle, iowait, irq, softirq] = found.slice(1).map(BigInt) as [
    bigint,
    bigint,
    bigint,
    bigint,
    bigint,
    bigint,
    bigint,
  ]
  return { busyNs: (user + nice + system + irq + softirq) * TICK_NS, idleNs: (idle + iowait) * TICK_NS }
}
