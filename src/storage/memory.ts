import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Bytes, CallOptions, Storage, StoredObject } from './contract.ts'
import { checkObjectName, checkPrefix } from './names.ts'
import { checkRange } from './ranges.ts'

export interface MemoryStorage extends Storage {
  /** What the store holds, open to tests that damage, remove or count objects behind the engine's back. */
  readonly objects: Map<string, Buffer>
}

/** A store in this process's memory, for tests: gone with the process. Keeps every guarantee of the contract but that. */
export function openMemoryStorage(): MemoryStorage {
  const objects = new Map<string, Buffer>()

  return {
    description: 'memory',
    objects,

    async put(name, bytes, options) {
      await begin(name, options)
      objects.set(name, copy(bytes))
    },

    async create(name, bytes, options) {
      await begin(name, options)
      if (objects.has(name)) return false
      objects.set(name, copy(bytes))
      return true
    },

    async get(name, range, options) {
      checkRange(range)
      await begin(name, options)
      const object = objects.get(name)
      if (!object) throw new RegainError('storage-not-found', `There is no object ${name} in memory.`)
      return copy(range ? object.subarray(range.offset, range.offset + range.length) : object)
    },

    async size(name, options) {
      await begin(name, options)
      return objects.get(name)?.length ?? null
    },

    async *list(prefix, options): AsyncGenerator<StoredObject> {
      checkPrefix(prefix)
      throwIfInterrupted(options?.signal)
      await turn()
      for (const name of [...objects.keys()]) {
        throwIfInterrupted(options?.signal)
        const size = objects.get(name)?.length
        if (size !== undefined && name.startsWith(prefix)) yield { name, size }
      }
    },

    async delete(name, options) {
      await begin(name, options)
      objects.delete(name)
    },

    async close() {},
  }
}

async function begin(name: string, options: CallOptions | undefined): Promise<void> {
  checkObjectName(name)
  throwIfInterrupted(options?.signal)
  await turn()
  throwIfInterrupted(options?.signal)
}

/** Lets other work run between call and effect, as every real store does; code that needs them in one breath is caught. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function copy(bytes: Bytes): Buffer {
  const pieces = bytes instanceof Uint8Array ? [bytes] : bytes
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
  const whole = Buffer.allocUnsafeSlow(length)
  let offset = 0
  for (const piece of pieces) {
    whole.set(piece, offset)
    offset += piece.length
  }
  return whole
}
