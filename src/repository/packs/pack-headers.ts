import type { Storage } from '../../storage/contract.ts'
import type { DomainKeys } from '../format/domain-keys.ts'
import { packName } from '../format/object-names.ts'
import { HEADER_BYTES, Opener } from '../format/sealed.ts'
import { isDamage } from '../verify/damage.ts'

/** Some 200 KiB. A restore reads a pack in several stretches, and comes back to packs that older points share. */
const KEPT = 1024

/** Headers of packs, so that reading several stretches of one asks for it once. */
export class PackHeaders {
  private readonly storage: Storage
  private readonly keys: DomainKeys
  /** Proven ones, and those on their way. Least recently used first. */
  private readonly known = new Map<string, Promise<Buffer>>()

  constructor(storage: Storage, keys: DomainKeys) {
    this.storage = storage
    this.keys = keys
  }

  /** `pack`: hex. As it is in the store, whatever that is worth. */
  async read(pack: string, sizeBytes: number, signal: AbortSignal | undefined): Promise<Buffer> {
    const known = this.known.get(pack)
    if (known) {
      try {
        const header = await known
        this.remember(pack, known)
        return header
      } catch {
        // Another caller's failure, or his interruption: this one asks for himself.
      }
    }
    const reading = this.fetch(pack, signal)
    this.remember(pack, reading)
    let isProven = false
    try {
      const header = await reading
      isProven = this.isHeader(header, pack, sizeBytes)
      return header
    } finally {
      if (!isProven && this.known.get(pack) === reading) this.known.delete(pack)
    }
  }

  private async fetch(pack: string, signal: AbortSignal | undefined): Promise<Buffer> {
    const range = { offset: 0, length: HEADER_BYTES }
    return this.storage.get(packName(pack), range, signal ? { signal } : {})
  }

  private remember(pack: string, header: Promise<Buffer>): void {
    this.known.delete(pack)
    this.known.set(pack, header)
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value as string)
  }

  /** What was hurt on its way must not be handed out for the next hour. */
  private isHeader(header: Buffer, pack: string, sizeBytes: number): boolean {
    try {
      new Opener(this.keys, 'P', '', header, sizeBytes, packName(pack))
      return true
    } catch (error) {
      if (isDamage(error)) return false
      throw error
    }
  }
}
