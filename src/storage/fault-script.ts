import { createHash } from 'node:crypto'
import type { Call, Fault, FaultScript, Operation } from './fault.ts'

export interface RandomFaults {
  /** Printed by the test, so that a failure can be had again. */
  seed: string | number
  /** Share of the calls that get a fault, 0 to 1. */
  rate: number
  /** Kinds to choose from, where the operation can have them. `hang` needs calls with signals. */
  kinds: Exclude<Fault['kind'], 'call'>[]
  /** Default: all. */
  operations?: Operation[]
  /** No faults after this many; default: no limit. Lets code that tries again get there in the end. Concurrent work shares it out by time. */
  limit?: number
}

/**
 * Faults that look random and follow from the seed. Each is decided by what is called (operation, name, and the how
 * manieth such call it is), not by its place in time, so that work done concurrently meets the same faults in every run.
 */
export function randomFaults(options: RandomFaults): FaultScript {
  const timesCalled = new Map<string, number>()
  let given = 0

  return (call) => {
    if (options.operations && !options.operations.includes(call.operation)) return null
    const subject = `${call.operation} ${call.name}`
    const times = (timesCalled.get(subject) ?? 0) + 1
    timesCalled.set(subject, times)

    const dice = createHash('sha256').update(`${options.seed} ${subject} ${times}`).digest()
    if (dice.readUInt32LE(0) / 2 ** 32 >= options.rate) return null
    const kinds = options.kinds.filter((kind) => applies(kind, call))
    if (kinds.length === 0 || given >= (options.limit ?? Number.POSITIVE_INFINITY)) return null
    given++
    return faultOf(kinds[dice.readUInt32LE(4) % kinds.length]!, dice.readUInt32LE(8))
  }
}

function applies(kind: Fault['kind'], call: Call): boolean {
  if (kind === 'torn') return call.operation === 'put' || call.operation === 'create'
  if (kind === 'flip-bit' || kind === 'truncate') return call.operation === 'get'
  return true
}

function faultOf(kind: RandomFaults['kinds'][number], number: number): Fault {
  switch (kind) {
    case 'torn':
    case 'truncate':
      // Every order of magnitude as often as every other. It may exceed the object's length: then nothing is lost.
      return { kind, keepBytes: number >>> (number % 32) }
    case 'flip-bit':
      return { kind, bit: number }
    default:
      return { kind }
  }
}
