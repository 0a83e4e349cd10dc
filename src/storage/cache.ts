import { createHash } from 'node:crypto'
import { lstat, mkdir, readdir, rename, statfs, unlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Ambient } from '../model.ts'
import type { Bytes, CallOptions, Immutability, ObjectCache, Storage, StoredObject, WriteOptions } from './contract.ts'
import { readRegularFile } from './local-files.ts'
import { lengthOf, piecesOf } from './pieces.ts'

/** Of all copies together, whatever store they are from. Less where the disk is small: a quarter of what could be free. */
const LIMIT_BYTES = 1024 ** 3
/** What is left of a disk that is this full is for others. */
const MIN_LIMIT_BYTES = 16 * 1024 ** 2
const LIMIT_FILES = 4096
/** An index segment is below it by far, and so is a group of a pack. */
const MAX_COPY_BYTES = 48 * 1024 ** 2
/** What one process writes between two looks at all copies, as a share of the limit, and in files. */
const UNSEEN_SHARE = 1 / 16
const UNSEEN_FILES = 256
/** A file that is still being written is younger. */
const LEFT_OVER_MS = 3_600_000
const MAX_REMEMBERED = 4096

interface CacheOptions {
  /** Made when the first copy is kept. */
  directory: string
  ambient: Pick<Ambient, 'now' | 'randomBytes' | 'log'>
  limitBytes?: number
}

/**
 * Keeps copies of what never changes in a folder of this machine (contract.ts, ObjectCache). The store's own calls go
 * through as they are: nothing is answered from a copy that did not ask for one.
 */
export function withCache(inner: Storage, options: CacheOptions): Storage {
  return new CachingStorage(inner, new CacheFolder(inner.description, options))
}

class CachingStorage implements Storage {
  readonly description: string
  readonly immutability?: Immutability
  readonly cache: ObjectCache
  readonly #inner: Storage
  readonly #folder: CacheFolder

  constructor(inner: Storage, folder: CacheFolder) {
    this.#inner = inner
    this.#folder = folder
    this.cache = folder
    this.description = inner.description
    if (inner.immutability !== undefined) this.immutability = inner.immutability
  }

  put(name: string, bytes: Bytes, options?: WriteOptions): Promise<void> {
    return this.#inner.put(name, bytes, options)
  }

  create(name: string, bytes: Bytes, options?: WriteOptions): Promise<boolean> {
    return this.#inner.create(name, bytes, options)
  }

  get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    return this.#inner.get(name, range, options)
  }

  size(name: string, options?: CallOptions): Promise<number | null> {
    return this.#inner.size(name, options)
  }

  list(prefix: string, options?: CallOptions): AsyncIterable<StoredObject> {
    return this.#inner.list(prefix, options)
  }

  async delete(name: string, options?: CallOptions): Promise<void> {
    await this.#inner.delete(name, options)
    await this.#folder.forget(name)
  }

  async close(): Promise<void> {
    await this.#folder.close()
    await this.#inner.close()
  }
}

/**
 * One folder with a file for each copy, shared by all stores and processes. Nothing in it is made durable: a copy that a crash
 * tore is found out by who asked for it. A copy appears whole, by a rename; the least recently used go first. Never rejects.
 */
class CacheFolder implements ObjectCache {
  readonly #directory: string
  readonly #ambient: CacheOptions['ambient']
  readonly #limitBytes: number
  /** Two stores never share a copy, so that one that lies can't spoil the other's. */
  readonly #place: string
  /** Null: not looked at yet. */
  #unseen: { bytes: number; files: number; limitBytes: number } | null = null
  #looking: Promise<void> | null = null
  #isOff = false
  readonly #forgotten = new Set<string>()

  constructor(place: string, { directory, ambient, limitBytes = LIMIT_BYTES }: CacheOptions) {
    this.#directory = directory
    this.#ambient = ambient
    this.#limitBytes = limitBytes
    this.#place = createHash('sha256').update(place).digest('hex').slice(0, 16)
  }

  async get(name: string, part: string): Promise<Buffer | null> {
    const path = this.#path(name, part)
    try {
      const bytes = await readRegularFile(path, { offset: 0, length: MAX_COPY_BYTES + 1 }, undefined)
      if (bytes === null || bytes.length === 0 || bytes.length > MAX_COPY_BYTES) return null
      await this.#markUsed(path)
      return bytes
    } catch (error) {
      // What is no file (ELOOP, EISDIR) is found again when a copy shall take its place.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#giveUp(error)
      return null
    }
  }

  async keep(name: string, part: string, bytes: Bytes): Promise<void> {
    const path = this.#path(name, part)
    const length = lengthOf(bytes)
    if (this.#isOff || length === 0 || length > MAX_COPY_BYTES) return
    const temporary = join(this.#directory, `+${this.#ambient.randomBytes(16).toString('hex')}`)
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 })
      if (!(await this.#makeRoom(length))) return
      await writeFile(temporary, piecesOf(bytes), { flag: 'wx', mode: 0o600 })
      await this.#markUsed(temporary)
      await rename(temporary, path)
    } catch (error) {
      const { code, syscall } = error as NodeJS.ErrnoException
      // Somebody has just removed the folder: the next copy makes it again.
      if (code !== 'ENOENT' || syscall === 'mkdir') this.#giveUp(error)
      // Best effort: what stays is removed by a later look.
      await unlink(temporary).catch(() => undefined)
    }
  }

  async drop(name: string, part: string): Promise<void> {
    await this.#remove(this.#path(name, part))
  }

  /** All copies of the object go, at the latest when the store is closed. */
  async forget(name: string): Promise<void> {
    if (!isKept(name)) return
    this.#forgotten.add(this.#prefix(name))
    if (this.#forgotten.size >= MAX_REMEMBERED) await this.#look()
  }

  async close(): Promise<void> {
    if (this.#forgotten.size > 0) await this.#look()
  }

  /** False: there is none. Looks at all copies when this process has written enough since it last did. */
  async #makeRoom(length: number): Promise<boolean> {
    const isDue = () => {
      const seen = this.#unseen
      return seen === null || seen.files >= UNSEEN_FILES || seen.bytes + length > seen.limitBytes * UNSEEN_SHARE
    }
    if (isDue()) await this.#look()
    if (this.#isOff || this.#unseen === null || length > this.#unseen.limitBytes * UNSEEN_SHARE) return false
    this.#unseen.files++
    this.#unseen.bytes += length
    return true
  }

  #look(): Promise<void> {
    this.#looking ??= this.#tidy()
      .catch((error: unknown) => this.#giveUp(error))
      .finally(() => {
        this.#looking = null
      })
    return this.#looking
  }

  /** Removes what is left over or forgotten, then the least recently used, until what this process may write fits in. */
  async #tidy(): Promise<void> {
    const copies: { path: string; bytes: number; usedMs: number }[] = []
    const forgotten = new Set(this.#forgotten)
    for (const file of await listFolder(this.#directory)) {
      const path = join(this.#directory, file)
      const stat = await lstat(path).catch(() => null)
      // Gone meanwhile, or nothing of ours.
      if (!stat?.isFile() || !/^(\+[0-9a-f]{32}|[0-9a-f]{16}\..*)$/.test(file)) continue
      if (file.startsWith('+')) {
        if (Math.abs(this.#ambient.now() - stat.mtimeMs) > LEFT_OVER_MS) await this.#remove(path)
      } else if (forgotten.has(file.slice(0, file.lastIndexOf('.') + 1))) await this.#remove(path)
      else copies.push({ path, bytes: stat.blocks * 512, usedMs: stat.mtimeMs })
    }
    for (const name of forgotten) this.#forgotten.delete(name)
    let bytes = copies.reduce((sum, copy) => sum + copy.bytes, 0)
    let files = copies.length
    const free = await freeBytes(this.#directory)
    if (free === null) return
    const limitBytes = Math.min(this.#limitBytes, (bytes + free) / 4)
    if (limitBytes < Math.min(this.#limitBytes, MIN_LIMIT_BYTES)) this.#giveUp({ code: 'ENOSPC' })
    copies.sort((a, b) => a.usedMs - b.usedMs)
    for (const copy of copies) {
      if (bytes <= limitBytes * (1 - UNSEEN_SHARE) && files <= LIMIT_FILES - UNSEEN_FILES) break
      await this.#remove(copy.path)
      bytes -= copy.bytes
      files--
    }
    this.#unseen = { bytes: 0, files: 0, limitBytes }
  }

  async #remove(path: string): Promise<void> {
    try {
      await unlink(path)
    } catch (error) {
      // Another process was quicker.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#giveUp(error)
    }
  }

  /** The file's time says when it was last used. Where it can't be set, the wrong copy goes first: no more. */
  async #markUsed(path: string): Promise<void> {
    const now = new Date(this.#ambient.now())
    await utimes(path, now, now).catch(() => undefined)
  }

  /** Once: from then on copies are read and no longer made. */
  #giveUp(error: unknown): void {
    if (this.#isOff) return
    this.#isOff = true
    const why = (error as NodeJS.ErrnoException).code ?? String(error)
    this.#ambient.log(
      'warning',
      `No copies of what is read can be kept in ${this.#directory} (${why}). Nothing is lost by that; more is asked of the destination.`,
    )
  }

  #path(name: string, part: string): string {
    if (!isKept(name)) throw new Error(`${name} may change or go, so no copy of it may be kept.`)
    return join(this.#directory, `${this.#prefix(name)}${part}`)
  }

  #prefix(name: string): string {
    return `${this.#place}.${name.replaceAll('/', '-')}.`
  }
}

/** Only names that are hashes: whatever else there is can be written anew, or tells by being gone that something ended. */
function isKept(name: string): boolean {
  return /^(index|packs\/[0-9a-f]{2})\/[0-9a-f]{64}$/.test(name)
}

async function listFolder(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Null: the folder is not there. */
async function freeBytes(directory: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(directory)
    return bavail * bsize
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
