import { RegainError } from '../../errors.ts'

/**
 * Holds a session's threads to the limits that an operator set: bytes read from the source a second, and a share of the
 * machine's processors. One clock of debt for each limit, in memory that all threads share: whatever one of them spends
 * moves the clock forward for all, and who finds it ahead of the time waits. A pause gives at most BURST_NS of credit.
 *
 * Waiting blocks the thread, which has nothing else to do; `stopPace` ends every wait at once.
 */
export interface PaceLimits {
  readBytesPerSecond?: number
  /** Of all processors together, above 0 and below 1. What the process uses besides its threads counts too. */
  cpuShare?: number
}

/** To be handed to threads. */
export interface SharedPace {
  /** Clocks of debt in nanoseconds of the monotonic clock, and the processor time accounted for. */
  clocks: SharedArrayBuffer
  /** One word, zero until the session is given up. */
  stop: SharedArrayBuffer
  readBytesPerSecond: number | null
  /** Processor nanoseconds allowed in a nanosecond. */
  processors: number | null
}

/** Read at once when reading is paced, so that the rate is even and the wait for an interruption short. */
export const PACED_READ_BYTES = 256 * 1024

const BURST_NS = 250_000_000n
const LONGEST_WAIT_MS = 1000
const READ = 0
const CPU = 1
const CPU_SEEN = 2

/** Null: nothing is limited. `processors` is their number on this machine. */
export function sharePace(limits: PaceLimits, processors: number): SharedPace | null {
  const { readBytesPerSecond = null, cpuShare = null } = limits
  if (readBytesPerSecond === null && cpuShare === null) return null
  const pace = {
    clocks: new SharedArrayBuffer(3 * 8),
    stop: new SharedArrayBuffer(4),
    readBytesPerSecond,
    processors: cpuShare === null ? null : cpuShare * processors,
  }
  new BigInt64Array(pace.clocks)[CPU_SEEN] = usedNs()
  return pace
}

/** Ends all waiting: whoever waits, or comes to wait, is told of the interruption. */
export function stopPace(pace: SharedPace): void {
  const stop = new Int32Array(pace.stop)
  Atomics.store(stop, 0, 1)
  Atomics.notify(stop, 0)
}

/** A thread's view. Its calls block, and throw `interrupted` once the session is given up. */
export class Pace {
  private readonly clocks: BigInt64Array
  private readonly stop: Int32Array
  private readonly nsPerByte: number | null
  private readonly processors: number | null

  constructor(shared: SharedPace) {
    this.clocks = new BigInt64Array(shared.clocks)
    this.stop = new Int32Array(shared.stop)
    this.nsPerByte = shared.readBytesPerSecond === null ? null : 1e9 / shared.readBytesPerSecond
    this.processors = shared.processors
  }

  /** Bytes that are about to be read, or that have arrived. */
  read(bytes: number): void {
    if (this.nsPerByte !== null) this.spend(READ, BigInt(Math.ceil(bytes * this.nsPerByte)))
  }

  /** Call it between pieces of work of some milliseconds at most. */
  compute(): void {
    if (this.processors === null) return
    const used = usedNs()
    const seen = Atomics.exchange(this.clocks, CPU_SEEN, used)
    // Threads may pass each other between the two lines: what one counts twice, the other counted as negative.
    this.spend(CPU, BigInt(Math.round(Number(used - seen) / this.processors)))
  }

  private spend(clock: number, costNs: bigint): void {
    let debt: bigint
    let start: bigint
    do {
      debt = Atomics.load(this.clocks, clock)
      const earliest = process.hrtime.bigint() - BURST_NS
      start = debt > earliest ? debt : earliest
    } while (Atomics.compareExchange(this.clocks, clock, debt, start + costNs) !== debt)
    this.waitUntil(start)
  }

  private waitUntil(moment: bigint): void {
    for (;;) {
      if (Atomics.load(this.stop, 0) !== 0)
        throw new RegainError('interrupted', 'The backup was given up. Nothing of it is visible.')
      const leftMs = Number(moment - process.hrtime.bigint()) / 1e6
      if (leftMs <= 0) return
      Atomics.wait(this.stop, 0, 0, Math.min(leftMs, LONGEST_WAIT_MS))
    }
  }
}

/** Processor time of the whole process, its threads included. */
function usedNs(): bigint {
  const { user, system } = process.cpuUsage()
  return BigInt(user + system) * 1000n
}
