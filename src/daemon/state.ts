import { type Catalog, openCatalog } from '../catalog/catalog.ts'
import { describeError } from '../catalog/record.ts'
import type { Ambient } from '../model.ts'

/**
 * The daemon's hold on the state file. Protecting data does not need the file, so a write that fails is logged and the
 * daemon goes on; a file that was damaged or deleted under it is replaced, and the next write succeeds.
 */
export class DaemonState {
  readonly #open: () => Catalog
  readonly #ambient: Ambient
  #catalog: Catalog
  #isBroken = false

  /** The caller has the lock of lockDaemon. */
  constructor(directory: string, ambient: Ambient, pid: number) {
    this.#ambient = ambient
    this.#open = () => {
      const catalog = openCatalog({ directory, ambient, pid, isDaemon: true })
      if (catalog.notice !== null) ambient.log('warning', catalog.notice)
      return catalog
    }
    this.#catalog = this.#open()
  }

  get catalog(): Catalog {
    return this.#catalog
  }

  /** Never throws. */
  note(write: (catalog: Catalog) => void): void {
    try {
      if (this.#isBroken || !this.#catalog.isInPlace()) this.#replace()
      write(this.#catalog)
    } catch (error) {
      this.#isBroken = true
      this.#ambient.log('error', `The state file cannot be written: ${describeError(error).message}`)
    }
  }

  close(): void {
    this.#catalog.close()
  }

  #replace(): void {
    const fresh = this.#open()
    this.#catalog.close()
    this.#catalog = fresh
    this.#isBroken = false
    this.#ambient.log('warning', 'The state file was opened again. No backup is affected.')
  }
}
