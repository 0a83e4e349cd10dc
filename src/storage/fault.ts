import { RegainError } from '../errors.ts'
import type { Bytes, CallOptions, Storage, StoredObject } from './contract.ts'

/**
 * A store that fails on purpose, for tests of what is built on stores: wrap any Storage and say, call by call, what
 * goes wrong.
 *
 *     const storage = withFaults(openMemoryStorage(), (call) =>
 *       call.operation === 'put' && call.nth === 3 ? { kind: 'reject-after' } : null)
 *
 * A script sees each call once, before anything happens, and answers with a fault or null. For a random one see
 * fault-script.ts. A script that asks for a fault which the operation cannot have is a mistake in the test: the call
 * rejects with `internal`. `localDirectory` is hidden, so that no reader gets past the faults.
 */
export function withFaults(inner: Storage, script: FaultScript): FaultyStorage {
  return new FaultyStorage(inner, script)
}

export type Operation = 'put' | 'create' | 'get' | 'size' | 'list' | 'delete'

export interface Call {
  /** Counts all calls from 1, in the order in which they are made. */
  number: number
  /** Counts the calls of this operation from 1. */
  nth: number
  operation: Operation
  /** Of `list`: the prefix. */
  name: string
}

export type FaultScript = (call: Call) => Fault | null

export type Fault =
  /** Nothing happens, and the call fails: a store that is full, or away. Default error: `storage-unavailable`. */
  | { kind: 'reject-before'; error?: RegainError }
  /** All of it happens, and the call fails: the answer was lost on the way (an ambiguous success). */
  | { kind: 'reject-after'; error?: RegainError }
  /** put, create: only the first bytes are stored. The call then succeeds: a store that breaks its promise. */
  | { kind: 'torn'; keepBytes: number }
  /** get: one bit of the answer is wrong, counted from the first byte's lowest, modulo the answer's length. */
  | { kind: 'flip-bit'; bit: number }
  /** get: the answer ends early. */
  | { kind: 'truncate'; keepBytes: number }
  /** No answer until the signal fires; without a signal the call rejects with `internal`, as it could never end. */
  | { kind: 'hang' }
  /** `run` is called, and awaited, before or after the operation: to kill a process, or to change the store. */
  | { kind: 'call'; when: 'before' | 'after'; run: () => void | Promise<void> }

export class FaultyStorage implements Storage {
  readonly description: string
  /** Every call so far. */
  readonly calls: Call[] = []
  readonly #counts = new Map<Operation, number>()
  readonly #inner: Storage
  readonly #script: FaultScript

  constructor(inner: Storage, script: FaultScript) {
    this.description = `${inner.description}, with faults`
    this.#inner = inner
    this.#script = script
  }

  /** How many calls of this operation were made, or of all. */
  count(operation?: Operation): number {
    return operation === undefined ? this.calls.length : (this.#counts.get(operation) ?? 0)
  }

  async put(name: string, bytes: Bytes, options?: CallOptions): Promise<void> {
    await this.#perform('put', name, options, (fault) => this.#inner.put(name, stored(bytes, fault), options))
  }

  async create(name: string, bytes: Bytes, options?: CallOptions): Promise<boolean> {
    return this.#perform('create', name, options, (fault) => this.#inner.create(name, stored(bytes, fault), options))
  }

  async get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    return this.#perform('get', name, options, async (fault) =>
      answered(await this.#inner.get(name, range, options), fault),
    )
  }

  async size(name: string, options?: CallOptions): Promise<number | null> {
    return this.#perform('size', name, options, () => this.#inner.size(name, options))
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<StoredObject> {
    const fault = this.#fault('list', prefix)
    await before(fault, options)
    yield* this.#inner.list(prefix, options)
    await after(fault)
  }

  async delete(name: string, options?: CallOptions): Promise<void> {
    await this.#perform('delete', name, options, () => this.#inner.delete(name, options))
  }

  async close(): Promise<void> {
    await this.#inner.close()
  }

  async #perform<T>(
    operation: Operation,
    name: string,
    options: CallOptions | undefined,
    work: (fault: Fault | null) => Promise<T>,
  ): Promise<T> {
    const fault = this.#fault(operation, name)
    await before(fault, options)
    const result = await work(fault)
    await after(fault)
    return result
  }

  #fault(operation: Operation, name: string): Fault | null {
    const call = { number: this.calls.length + 1, nth: this.count(operation) + 1, operation, name }
    this.calls.push(call)
    this.#counts.set(operation, call.nth)
    const fault = this.#script(call)
    if (fault) checkApplies(fault, operation)
    return fault
  }
}

async function before(fault: Fault | null, options: CallOptions | undefined): Promise<void> {
  if (fault?.kind === 'reject-before') throw fault.error ?? unavailable('before it was carried out')
  if (fault?.kind === 'hang') await hang(options?.signal)
  if (fault?.kind === 'call' && fault.when === 'before') await fault.run()
}

async function after(fault: Fault | null): Promise<void> {
  if (fault?.kind === 'reject-after') throw fault.error ?? unavailable('after it was carried out')
  if (fault?.kind === 'call' && fault.when === 'after') await fault.run()
}

function unavailable(when: string): RegainError {
  return new RegainError('storage-unavailable', `The call was made to fail ${when}.`)
}

function hang(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    const interrupted = () => reject(new RegainError('interrupted', 'The operation was interrupted.'))
    if (!signal) reject(new RegainError('internal', 'A call without a signal was made to hang; it could never end.'))
    else if (signal.aborted) interrupted()
    else signal.addEventListener('abort', interrupted, { once: true })
  })
}

function stored(bytes: Bytes, fault: Fault | null): Bytes {
  if (fault?.kind !== 'torn') return bytes
  return Buffer.concat(bytes instanceof Uint8Array ? [bytes] : bytes).subarray(0, fault.keepBytes)
}

function answered(bytes: Buffer, fault: Fault | null): Buffer {
  if (fault?.kind === 'truncate') return bytes.subarray(0, fault.keepBytes)
  if (fault?.kind !== 'flip-bit' || bytes.length === 0) return bytes
  const index = Math.floor(fault.bit / 8) % bytes.length
  bytes[index] = bytes[index]! ^ (1 << (fault.bit % 8))
  return bytes
}

function checkApplies(fault: Fault, operation: Operation): void {
  const writes = operation === 'put' || operation === 'create'
  const misplaced =
    (fault.kind === 'torn' && !writes) ||
    ((fault.kind === 'flip-bit' || fault.kind === 'truncate') && operation !== 'get')
  if (misplaced) throw new RegainError('internal', `The fault ${fault.kind} cannot be given to ${operation}.`)
}
