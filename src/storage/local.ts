import { close, constants, type Dirent, fstat, open } from 'node:fs'
import { link, lstat, mkdir, readdir, rename, stat, unlink } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import { errnoName, makeFolders, syncFolder } from '../filesystem/durable.ts'
import type { Ambient } from '../model.ts'
import type { Bytes, CallOptions, Storage, StoredObject, WriteOptions } from './contract.ts'
import { linkError, saysAbsent, storageError } from './local-errors.ts'
import { readRegularFile, writeNewFile } from './local-files.ts'
import { fillReserve, isFull, takeFromReserve } from './local-reserve.ts'
import { removeStaleTemporaries, TEMPORARY_FOLDER, temporaryName } from './local-temporaries.ts'
import { checkObjectName, checkPrefix, isObjectName, isPrefix } from './names.ts'
import { lengthOf } from './pieces.ts'
import { checkRange } from './ranges.ts'

/**
 * Objects as files below one directory, files 0600 and folders 0700. Needs a file system with hard links and atomic
 * rename. A network file system keeps `list`'s guarantee only between processes of one host, or mounted without
 * attribute caching (NFS: `noac`).
 *
 * An object is written under a temporary name, synced, given its name (rename, or link for create-if-absent), and the
 * folder that holds the name is synced, in this order: at any crash the name is absent or stands for durable bytes.
 */
export async function openLocalStorage(directory: string, ambient?: Pick<Ambient, 'now' | 'log'>): Promise<Storage> {
  const root = resolve(directory)
  const handle = await openRoot(root)
  if (ambient) await removeStaleTemporaries(root, ambient)
  return new LocalStorage(root, handle)
}

/** Makes the directory and its missing parents durably, then opens it. One that exists is used as it is. */
export async function createLocalStorage(directory: string, ambient?: Pick<Ambient, 'now' | 'log'>): Promise<Storage> {
  const root = resolve(directory)
  try {
    await makeFolders(root)
  } catch (error) {
    throw storageError(error, `The directory ${root} could not be made`, 'Nothing was written.')
  }
  return openLocalStorage(root, ambient)
}

async function openRoot(root: string): Promise<number> {
  try {
    return await promisify(open)(root, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    if (errnoName(error) !== 'ENOENT') {
      throw storageError(error, `The directory ${root} could not be opened`, 'Nothing was read or written.')
    }
    throw new RegainError('storage-not-found', `There is no directory ${root}.`, {
      cause: error,
      hint: 'Check the path, and that its disk is mounted. A new destination is made with: regain init',
    })
  }
}

/** How many files are asked for their size at a time. */
const LIST_BATCH = 64

const NO_HALF_OBJECT = 'The object is either whole or absent, never half-written.'
const NOTHING_CHANGED = 'Nothing was changed.'

class LocalStorage implements Storage {
  readonly description: string
  readonly localDirectory: string
  /**
   * Held open for as long as the store is: it pins the file system that was opened, so that an unmounted disk is told
   * apart from an empty store (#checkRoot). A plain descriptor, because a FileHandle that is forgotten throws on collection.
   */
  readonly #root: number
  #closed = false
  /** Folders known to exist durably, as paths. No larger than the store's number of folders. */
  readonly #folders = new Map<string, Promise<void>>()

  constructor(directory: string, root: number) {
    this.description = `local ${directory}`
    this.localDirectory = directory
    this.#root = root
  }

  async put(name: string, bytes: Bytes, options?: WriteOptions): Promise<void> {
    await this.#publish(name, bytes, options, async (temporary, target) => {
      await rename(temporary, target)
      return true
    })
  }

  async create(name: string, bytes: Bytes, options?: WriteOptions): Promise<boolean> {
    return this.#publish(name, bytes, options, async (temporary, target) => {
      const made = await linkIfAbsent(temporary, target, this.description)
      await unlinkIfPresent(temporary)
      return made
    })
  }

  async get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    checkObjectName(name)
    checkRange(range)
    throwIfInterrupted(options?.signal)
    const bytes = await this.#reading(name, null, () => readRegularFile(this.#path(name), range, options?.signal))
    if (bytes === null) throw new RegainError('storage-not-found', `There is no object ${name} in ${this.description}.`)
    return bytes
  }

  async size(name: string, options?: CallOptions): Promise<number | null> {
    checkObjectName(name)
    throwIfInterrupted(options?.signal)
    return this.#reading(name, null, () => sizeOfRegularFile(this.#path(name)))
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<StoredObject> {
    checkPrefix(prefix)
    const folders = [prefix]
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      throwIfInterrupted(options?.signal)
      const entries = await this.#reading(folder, [], () => readFolderTwice(this.#path(folder!)))
      const names: string[] = []
      for (const entry of entries) {
        const name = folder + entry.name
        if (entry.isDirectory() && isPrefix(`${name}/`)) folders.push(`${name}/`)
        if (entry.isFile() && isObjectName(name)) names.push(name)
      }
      for (let i = 0; i < names.length; i += LIST_BATCH) {
        throwIfInterrupted(options?.signal)
        yield* await this.#withSizes(names.slice(i, i + LIST_BATCH))
      }
    }
    // A disk that went away while it was listed would look like a store that holds less.
    await this.#checkRoot()
  }

  async delete(name: string, options?: CallOptions): Promise<void> {
    checkObjectName(name)
    throwIfInterrupted(options?.signal)
    const path = this.#path(name)
    await this.#reading(name, undefined, () => unlink(path))
    // Also when it was absent: the call that removed it may have died before this line.
    await this.#reading(name, undefined, () => syncFolder(dirname(path)))
  }

  async setRoomAside(options?: CallOptions): Promise<boolean> {
    throwIfInterrupted(options?.signal)
    await this.#checkRoot()
    try {
      return await fillReserve(this.localDirectory)
    } catch (error) {
      throw storageError(error, `No room could be set aside in ${this.description}`, NOTHING_CHANGED)
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await promisify(close)(this.#root)
  }

  /** Writes a temporary file and has `place` give it its name; durable, name included, when it resolves. */
  async #publish(
    name: string,
    bytes: Bytes,
    options: WriteOptions | undefined,
    place: (temporary: string, target: string) => Promise<boolean>,
  ): Promise<boolean> {
    checkObjectName(name)
    const target = this.#path(name)
    try {
      const placed = await this.#place(target, bytes, options, place)
      await syncFolder(dirname(target))
      return placed
    } catch (error) {
      throw storageError(error, `Object ${name} could not be written to ${this.description}`, NO_HALF_OBJECT)
    }
  }

  /** Where nothing got its name for want of room, and this is what the reserve is for, once more with room from there. */
  async #place(
    target: string,
    bytes: Bytes,
    options: WriteOptions | undefined,
    place: (temporary: string, target: string) => Promise<boolean>,
  ): Promise<boolean> {
    for (;;) {
      throwIfInterrupted(options?.signal)
      const temporary = join(this.localDirectory, TEMPORARY_FOLDER, temporaryName())
      try {
        await this.#inFolder(dirname(temporary), () => writeNewFile(temporary, bytes, options?.signal))
        throwIfInterrupted(options?.signal)
        return await this.#inFolder(dirname(target), () => place(temporary, target))
      } catch (error) {
        await removeIfPossible(temporary)
        // Ends with the reserve: each turn takes some of it.
        if (!options?.fromReserve || !isFull(error) || !(await this.#takeFromReserve(bytes))) throw error
      }
    }
  }

  /** A reserve that cannot be had is none: what is told is that the disk is full. */
  async #takeFromReserve(bytes: Bytes): Promise<boolean> {
    return takeFromReserve(this.localDirectory, lengthOf(bytes)).catch(() => false)
  }

  /** Does `work`, which needs `folder`, making it first; once more if the folder vanished since it was last seen. */
  async #inFolder<T>(folder: string, work: () => Promise<T>): Promise<T> {
    await this.#ensureFolder(folder)
    try {
      return await work()
    } catch (error) {
      if (errnoName(error) !== 'ENOENT') throw error
      this.#folders.clear()
      await this.#ensureFolder(folder)
      return work()
    }
  }

  #ensureFolder(folder: string): Promise<void> {
    const known = this.#folders.get(folder)
    if (known) return known
    const made = this.#makeFolder(folder)
    this.#folders.set(folder, made)
    return made
  }

  /**
   * The parent is synced even if another process made the folder: it may not have got that far. Callers share one
   * promise, so that none of them relies on a folder whose name is not durable yet.
   */
  async #makeFolder(folder: string): Promise<void> {
    try {
      if (folder === this.localDirectory) return await this.#checkRoot()
      const parent = dirname(folder)
      await this.#ensureFolder(parent)
      await mkdirIfAbsent(folder)
      await syncFolder(parent)
    } catch (error) {
      this.#folders.delete(folder)
      throw error
    }
  }

  /** Does `work`; gives `absent` if the system says that the file or folder is not there and the store still is. */
  async #reading<T>(name: string, absent: T, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!saysAbsent(error)) {
        throw storageError(error, `Object ${name} could not be reached in ${this.description}`, NOTHING_CHANGED)
      }
    }
    await this.#checkRoot()
    return absent
  }

  /** Rejects with `storage-unavailable` unless the path still leads to the directory that was opened. */
  async #checkRoot(): Promise<void> {
    try {
      const opened = await promisify(fstat)(this.#root, { bigint: true })
      const found = await stat(this.localDirectory, { bigint: true })
      if (opened.ino === found.ino && opened.dev === found.dev) return
    } catch (error) {
      if (!saysAbsent(error)) {
        throw storageError(error, `${this.localDirectory} could not be looked at`, NOTHING_CHANGED)
      }
    }
    throw new RegainError(
      'storage-unavailable',
      `${this.localDirectory} is no longer the directory that was opened: it was unmounted, moved or removed. ` +
        'What is in it cannot be told.',
    )
  }

  /** Those that are still there. */
  async #withSizes(names: string[]): Promise<StoredObject[]> {
    const sizes = await Promise.all(
      names.map((name) => this.#reading(name, null, () => sizeOfRegularFile(this.#path(name)))),
    )
    return names.flatMap((name, i) => (sizes[i] == null ? [] : [{ name, size: sizes[i] }]))
  }

  #path(name: string): string {
    return join(this.localDirectory, name)
  }
}

async function linkIfAbsent(temporary: string, target: string, description: string): Promise<boolean> {
  try {
    await link(temporary, target)
    return true
  } catch (error) {
    if (errnoName(error) === 'EEXIST') return false
    throw linkError(error, description)
  }
}

async function mkdirIfAbsent(folder: string): Promise<void> {
  try {
    await mkdir(folder, 0o700)
  } catch (error) {
    if (errnoName(error) !== 'EEXIST') throw error
  }
}

/** A process that slept for a day between these lines may find its temporary file taken away as a stale one. */
async function unlinkIfPresent(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errnoName(error) !== 'ENOENT') throw error
  }
}

/** For a failure's clean-up: what cannot be removed now is found when the store is opened in days to come. */
async function removeIfPossible(temporary: string): Promise<void> {
  await unlink(temporary).catch(() => undefined)
}

async function sizeOfRegularFile(path: string): Promise<number | null> {
  const found = await lstat(path)
  return found.isFile() ? found.size : null
}

/**
 * POSIX lists a name without fail only if it stood untouched for the whole reading. One that is replaced meanwhile may
 * be missed (seen on tmpfs, where the new file goes to the end of the folder, behind the point where reading stops),
 * so the folder is read twice: a name would have to be replaced at the wrong moment of both.
 */
async function readFolderTwice(path: string): Promise<Dirent[]> {
  const entries = new Map<string, Dirent>()
  for (let pass = 0; pass < 2; pass++) {
    for (const entry of await readdir(path, { withFileTypes: true })) entries.set(entry.name, entry)
  }
  return [...entries.values()]
}
