import { RegainError } from '../../errors.ts'
import { nextShare, type ProcessorTimes, readProcessorTimes, useBetween } from './give-way.ts'

/**
 * Holds a session's threads to the limits that an operator set: bytes read from the source a second, and shares of the
 * machine's processors. One clock of debt for each limit, in memory that all threads share: whatever one of them spends
 * moves the clock forward for all, and who finds it ahead of the time waits. A pause gives at most BURST_NS of credit.
 *
 * Waiting blocks the thread, which has nothing else to do; `stopPace` ends every wait at once.
 */
export interface PaceLimits {
  readBytesPerSecond?: number
  /** Of all processors together, above 0 and below 1. What the process uses besides its threads counts too. */
  cpuShare?: number
  /**
   * Of all processors together while others keep them busy, above 0 and below 1. What the process uses besides counts as
   * far as it is likely to be work of the session: a daemon that follows a busy log must not bring its backups to a stop.
   */
  busyShare?: number
}

/** To be handed to threads. */
export interface SharedPace {
  /** Clocks of debt in nanoseconds of the monotonic clock, and what was seen of processor times. */
  clocks: SharedArrayBuffer
  /** One word, zero until the session is given up. */
  stop: SharedArrayBuffer
  readBytesPerSecond: number | null
  /** Processor nanoseconds allowed in a nanosecond. */
  processors: number | null
  /** Null: never gives way. */
  giveWay: { floor: number; processors: number; freeNs: bigint } | null
}

/** What a pace goes by; times in nanoseconds. */
export interface Machine {
  /** Monotonic. */
  nowNs(): bigint
  /** Processor time of the whole process, its threads included. */
  processNs(): bigint
  /** Of the calling thread. */
  threadNs(): bigint
  /** Null where the system does not tell. */
  processorTimes(): ProcessorTimes | null
  /** Blocks the thread for so long, or until it is notified. */
  wait(stop: Int32Array, waitMs: number): void
}

export const THIS_MACHINE: Machine = {
  nowNs: () => process.hrtime.bigint(),
  processNs: () => nanoseconds(process.cpuUsage()),
  threadNs: () => nanoseconds(process.threadCpuUsage()),
  processorTimes: readProcessorTimes,
  wait: (stop, waitMs) => void Atomics.wait(stop, 0, 0, waitMs),
}

/** Read at once when reading is paced, so that the rate is even and the wait for an interruption short. */
export const PACED_READ_BYTES = 256 * 1024

const BURST_NS = 250_000_000n
const LONGEST_WAIT_MS = 1000
/** Looking costs some 50 microseconds; the system counts by ticks of 10 milliseconds. */
const LOOK_EVERY_NS = 250_000_000n
/** Below it a thread does not ask again what it has used. */
const SHORT_NS = 1_000_000n
/** Up to both of these a session gives no way: a backup that is over in a moment is best over. */
const FREE_NS = 2_000_000_000n
const FREE_BYTES = 64n * 1024n * 1024n
/**
 * A nanosecond of the threads comes with at most three of the rest of the process: that reads a server's socket, takes the
 * archive apart and writes the packs. What is more is other work.
 */
const PROCESS_PER_THREADS = 4n
const MAX_ALLOWANCE_NS = 100_000_000n

const READ = 0
const CPU = 1
const CPU_SEEN = 2
const BUSY = 3
/** Of the session, and what may still be counted as of it. */
const USED = 4
const ALLOWANCE = 10
/** What may be taken now, in millionths of all processors. */
const SHARE = 5
const LOOKED_AT = 6
const BUSY_SEEN = 7
const IDLE_SEEN = 8
const OWN_SEEN = 9
/** Bytes that the session has read. */
const BYTES = 11
/** How long the thread that waited longest has waited for others to leave it processors. */
const GAVE_WAY = 12
const WORDS = 13

const MILLION = 1e6

/** Null: nothing is limited. `processors` is their number on this machine. */
export function sharePace(limits: PaceLimits, processors: number, machine = THIS_MACHINE): SharedPace | null {
  const { readBytesPerSecond = null, cpuShare = null, busyShare = null } = limits
  if (readBytesPerSecond === null && cpuShare === null && busyShare === null) return null
  const pace = {
    clocks: new SharedArrayBuffer(WORDS * 8),
    stop: new SharedArrayBuffer(4),
    readBytesPerSecond,
    processors: cpuShare === null ? null : cpuShare * processors,
    giveWay: busyShare === null ? null : { floor: busyShare, processors, freeNs: FREE_NS },
  }
  const clocks = new BigInt64Array(pace.clocks)
  clocks[CPU_SEEN] = machine.processNs()
  clocks[SHARE] = BigInt(MILLION)
  return pace
}

/** Ends all waiting: whoever waits, or comes to wait, is told of the interruption. */
export function stopPace(pace: SharedPace): void {
  const stop = new Int32Array(pace.stop)
  Atomics.store(stop, 0, 1)
  Atomics.notify(stop, 0)
}

/**
 * Whole milliseconds that the session has waited until now because others kept the processors busy: those of the thread that
 * waited longest. The threads wait at the same time, so their sum could be more than the time that has passed.
 */
export function gaveWayMs(pace: SharedPace): number {
  return Math.round(Number(Atomics.load(new BigInt64Array(pace.clocks), GAVE_WAY)) / 1e6)
}

/** A thread's view. Its calls block, and throw `interrupted` once the session is given up. */
export class Pace {
  /** Whether reading has a limit. */
  readonly limitsReading: boolean
  private readonly clocks: BigInt64Array
  private readonly stop: Int32Array
  private readonly nsPerByte: number | null
  private readonly processors: number | null
  private readonly giveWay: SharedPace['giveWay']
  private readonly machine: Machine
  private askedAtNs = 0n
  private threadSeenNs: bigint
  private gaveWayNs = 0n

  constructor(shared: SharedPace, machine = THIS_MACHINE) {
    this.machine = machine
    this.threadSeenNs = machine.threadNs()
    this.clocks = new BigInt64Array(shared.clocks)
    this.stop = new Int32Array(shared.stop)
    this.nsPerByte = shared.readBytesPerSecond === null ? null : 1e9 / shared.readBytesPerSecond
    this.limitsReading = this.nsPerByte !== null
    this.processors = shared.processors
    this.giveWay = shared.giveWay
  }

  /** Bytes that are about to be read, or that have arrived. */
  read(bytes: number): void {
    if (this.giveWay !== null) Atomics.add(this.clocks, BYTES, BigInt(bytes))
    if (this.nsPerByte !== null) this.spend(READ, BigInt(Math.ceil(bytes * this.nsPerByte)))
  }

  /** Call it between pieces of work of some milliseconds at most. */
  compute(): void {
    const { machine } = this
    if (machine.nowNs() - this.askedAtNs < SHORT_NS) return
    const used = machine.processNs()
    // Threads may pass each other between the two lines: what one counts twice, the other counted as negative.
    const cost = used - Atomics.exchange(this.clocks, CPU_SEEN, used)
    if (this.processors !== null) this.spend(CPU, BigInt(Math.round(Number(cost) / this.processors)))
    if (this.giveWay !== null) this.keepOutOfTheWay(this.giveWay, cost)
    this.askedAtNs = machine.nowNs()
  }

  private keepOutOfTheWay(
    { floor, processors, freeNs }: NonNullable<SharedPace['giveWay']>,
    processCost: bigint,
  ): void {
    const share = Number(Atomics.load(this.clocks, SHARE)) / MILLION
    const cost = this.costOfSession(processCost)
    this.lookAround(floor)
    const before = Atomics.add(this.clocks, USED, cost)
    const isFree = before < freeNs && Atomics.load(this.clocks, BYTES) < FREE_BYTES
    if (share >= 1 || isFree) return
    const waitedNs = this.spend(BUSY, BigInt(Math.round(Number(cost) / (share * processors))))
    if (waitedNs > 0n) this.noteGivingWay(waitedNs)
  }

  private noteGivingWay(waitedNs: bigint): void {
    this.gaveWayNs += waitedNs
    let longest = Atomics.load(this.clocks, GAVE_WAY)
    while (longest < this.gaveWayNs) {
      const found = Atomics.compareExchange(this.clocks, GAVE_WAY, longest, this.gaveWayNs)
      if (found === longest) return
      longest = found
    }
  }

  private costOfSession(processCost: bigint): bigint {
    const used = this.machine.threadNs()
    const threadCost = used - this.threadSeenNs
    this.threadSeenNs = used
    // Two threads at once may lose some of it, which makes the session a little cheaper.
    const earned = Atomics.load(this.clocks, ALLOWANCE) + threadCost * PROCESS_PER_THREADS
    const allowance = earned < MAX_ALLOWANCE_NS ? earned : MAX_ALLOWANCE_NS
    const cost = processCost < allowance ? processCost : allowance
    Atomics.store(this.clocks, ALLOWANCE, allowance - cost)
    return cost
  }

  /** One thread of all looks, a few times a second, and sets what all may take. */
  private lookAround(floor: number): void {
    const { clocks } = this
    const now = this.machine.nowNs()
    const lookedAt = Atomics.load(clocks, LOOKED_AT)
    if (now - lookedAt < LOOK_EVERY_NS) return
    if (Atomics.compareExchange(clocks, LOOKED_AT, lookedAt, now) !== lookedAt) return
    const times = this.machine.processorTimes()
    if (times === null) return
    const own = this.machine.processNs()
    const before = { busyNs: Atomics.load(clocks, BUSY_SEEN), idleNs: Atomics.load(clocks, IDLE_SEEN) }
    const use = useBetween(before, times, own - Atomics.load(clocks, OWN_SEEN))
    Atomics.store(clocks, BUSY_SEEN, times.busyNs)
    Atomics.store(clocks, IDLE_SEEN, times.idleNs)
    Atomics.store(clocks, OWN_SEEN, own)
    // The first look has nothing to compare with.
    if (lookedAt === 0n || use === null) return
    const share = nextShare(Number(Atomics.load(clocks, SHARE)) / MILLION, use, floor)
    Atomics.store(clocks, SHARE, BigInt(Math.round(share * MILLION)))
  }

  /** Returns the nanoseconds that it waited. */
  private spend(clock: number, costNs: bigint): bigint {
    let debt: bigint
    let start: bigint
    do {
      debt = Atomics.load(this.clocks, clock)
      const earliest = this.machine.nowNs() - BURST_NS
      start = debt > earliest ? debt : earliest
    } while (Atomics.compareExchange(this.clocks, clock, debt, start + costNs) !== debt)
    return this.waitUntil(start)
  }

  private waitUntil(moment: bigint): bigint {
    const beganAt = this.machine.nowNs()
    for (let now = beganAt; ; now = this.machine.nowNs()) {
      if (Atomics.load(this.stop, 0) !== 0)
        throw new RegainError('interrupted', 'The backup was given up. Nothing of it is visible.')
      if (moment <= now) return now - beganAt
      this.machine.wait(this.stop, Math.min(Number(moment - now) / 1e6, LONGEST_WAIT_MS))
    }
  }
}

function nanoseconds({ user, system }: NodeJS.CpuUsage): bigint {
  return BigInt(user + system) * 1000n
}
