import { posix } from 'node:path'
import { RegainError, throwIfInterrupted } from '../errors.ts'
import type { Ambient } from '../model.ts'
import type { Bytes, CallOptions, Storage, StoredObject } from './contract.ts'
import { checkObjectName, checkPrefix, isObjectName, isPrefix } from './names.ts'
import { lengthOf } from './pieces.ts'
import { checkRange } from './ranges.ts'
import type { SftpServer } from './sftp-connection.ts'
import { saysAbsent, saysFailure, sftpError } from './sftp-errors.ts'
import { readFile, readFolderTwice, syncFolder, writeNewFile } from './sftp-files.ts'
import { SftpPool } from './sftp-pool.ts'
import type { SftpSession } from './sftp-session.ts'
import { removeStaleTemporaries, TEMPORARY_FOLDER, temporaryName } from './sftp-temporaries.ts'

export interface SftpPlace extends SftpServer {
  /** Folder on the server, absolute or relative to where the login begins. */
  path: string
}

/**
 * Objects as files below one folder of an SFTP server, files 0600 and folders 0700, laid out as local storage lays them
 * out. Needs OpenSSH's extensions for hard links, atomic rename and fsync, folders included; a server without them is
 * refused here (docs/decisions/0016-sftp-what-a-server-must-offer.md).
 *
 * An object is written under a temporary name, synced, given its name (rename, or link for create-if-absent), and the
 * folder that holds the name is synced, in this order: at any crash the name is absent or stands for durable bytes.
 */
export async function openSftpStorage(place: SftpPlace, ambient: Ambient): Promise<Storage> {
  return begin(place, async (pool, description) => {
    await pool.use(undefined, async (session) => {
      checkExtensions(session, description)
      await checkFolder(session, place.path, description)
      await removeStaleTemporaries(session, place.path, ambient)
    })
    return new SftpStorage(pool, place.path, description, ambient)
  })
}

/** Makes the folder and its missing parents durably, then opens it. One that exists is used as it is. */
export async function createSftpStorage(place: SftpPlace, ambient: Ambient): Promise<Storage> {
  return begin(place, async (pool, description) => {
    await pool.use(undefined, async (session) => {
      checkExtensions(session, description)
      await makeFolders(session, place.path, description)
      await checkFolder(session, place.path, description)
    })
    return new SftpStorage(pool, place.path, description, ambient)
  })
}

const NO_HALF_OBJECT = 'The object is either whole or absent, never half-written.'
const NOTHING_CHANGED = 'Nothing was changed.'
const NOT_USABLE_HINT = 'Use a server with OpenSSH’s sftp-server or internal-sftp, on a file system with hard links.'

class SftpStorage implements Storage {
  readonly description: string
  readonly #pool: SftpPool
  readonly #root: string
  readonly #ambient: Ambient
  /** Folders known to exist durably, as paths. No larger than the store's number of folders. */
  readonly #folders = new Map<string, Promise<void>>()

  constructor(pool: SftpPool, root: string, description: string, ambient: Ambient) {
    this.#pool = pool
    // As posix.dirname gives it, which is how the walk up from a folder ends here.
    this.#root = posix.join(root, '.').replace(/(?<=.)\/$/, '')
    this.description = description
    this.#ambient = ambient
  }

  async put(name: string, bytes: Bytes, options?: CallOptions): Promise<void> {
    await this.#publish(name, bytes, options, async (session, temporary, target) => {
      await session.rename(temporary, target)
      return true
    })
  }

  async create(name: string, bytes: Bytes, options?: CallOptions): Promise<boolean> {
    return this.#publish(name, bytes, options, async (session, temporary, target) => {
      const made = await this.#linkIfAbsent(session, temporary, target)
      await removeIfPossible(session, temporary)
      return made
    })
  }

  async get(name: string, range?: { offset: number; length: number }, options?: CallOptions): Promise<Buffer> {
    checkObjectName(name)
    checkRange(range)
    const bytes = await this.#reading(name, null, options, (session) =>
      readFile(session, this.#path(name), range, options?.signal),
    )
    if (bytes === null) throw new RegainError('storage-not-found', `There is no object ${name} in ${this.description}.`)
    return bytes
  }

  async size(name: string, options?: CallOptions): Promise<number | null> {
    checkObjectName(name)
    return this.#reading(name, null, options, async (session) => {
      const found = await session.stat(this.#path(name))
      return found.isFile() ? found.size : null
    })
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<StoredObject> {
    checkPrefix(prefix)
    const folders = [prefix]
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      const entries = await this.#reading(folder, new Map(), options, (session) =>
        readFolderTwice(session, this.#path(folder!), options?.signal),
      )
      for (const [entry, { attrs }] of entries) {
        throwIfInterrupted(options?.signal)
        const name = folder + entry
        if (attrs.isDirectory() && isPrefix(`${name}/`)) folders.push(`${name}/`)
        if (attrs.isFile() && isObjectName(name)) yield { name, size: attrs.size }
      }
    }
    // A disk that went away while it was listed would look like a store that holds less.
    await this.#pool.use(options?.signal, (session) => checkRoot(session, this.#root))
  }

  async delete(name: string, options?: CallOptions): Promise<void> {
    checkObjectName(name)
    const path = this.#path(name)
    await this.#reading(name, undefined, options, (session) => removeFile(session, path))
    // Also when it was absent: the call that removed it may have died before this line.
    await this.#reading(name, undefined, options, (session) => syncFolder(session, posix.dirname(path)))
  }

  async close(): Promise<void> {
    await this.#pool.close()
  }

  /** Writes a temporary file and has `place` give it its name; durable, name included, when it resolves. */
  async #publish(
    name: string,
    bytes: Bytes,
    options: CallOptions | undefined,
    place: (session: SftpSession, temporary: string, target: string) => Promise<boolean>,
  ): Promise<boolean> {
    checkObjectName(name)
    const signal = options?.signal
    const target = this.#path(name)
    const temporary = posix.join(this.#root, TEMPORARY_FOLDER, temporaryName(this.#ambient))
    return this.#pool.use(signal, async (session) => {
      try {
        await this.#inFolder(session, posix.dirname(temporary), () => writeNewFile(session, temporary, bytes, signal))
        throwIfInterrupted(signal)
        const placed = await this.#inFolder(session, posix.dirname(target), () => place(session, temporary, target))
        await syncFolder(session, posix.dirname(target))
        return placed
      } catch (error) {
        await removeIfPossible(session, temporary)
        throw await this.#writeError(session, name, lengthOf(bytes), error)
      }
    })
  }

  /** SFTP has no word for a full disk, so the free space is asked for. */
  async #writeError(session: SftpSession, name: string, size: number, error: unknown): Promise<unknown> {
    const attempt = `Object ${name} could not be written to ${this.description}`
    if (saysFailure(error)) {
      const free = await session.freeBytes(this.#root).catch(() => null)
      if (free !== null && free < size) {
        const message = `${attempt}: the server has only ${free} bytes left. ${NO_HALF_OBJECT}`
        return new RegainError('storage-full', message, { cause: error })
      }
    }
    return sftpError(error, attempt, NO_HALF_OBJECT)
  }

  /** Does `work`, which needs `folder`, making it first; once more if the folder vanished since it was last seen. */
  async #inFolder<T>(session: SftpSession, folder: string, work: () => Promise<T>): Promise<T> {
    await this.#ensureFolder(session, folder)
    try {
      return await work()
    } catch (error) {
      if (!saysAbsent(error)) throw error
      this.#folders.clear()
      await this.#ensureFolder(session, folder)
      return work()
    }
  }

  #ensureFolder(session: SftpSession, folder: string): Promise<void> {
    const known = this.#folders.get(folder)
    if (known) return known
    const made = this.#makeFolder(session, folder)
    this.#folders.set(folder, made)
    return made
  }

  /**
   * The parent is synced even if another process made the folder: it may not have got that far. Callers share one
   * promise, so that none of them relies on a folder whose name is not durable yet.
   */
  async #makeFolder(session: SftpSession, folder: string): Promise<void> {
    try {
      if (folder === this.#root) return await checkRoot(session, this.#root)
      await this.#ensureFolder(session, posix.dirname(folder))
      await makeFolder(session, folder)
    } catch (error) {
      this.#folders.delete(folder)
      throw error
    }
  }

  async #linkIfAbsent(session: SftpSession, temporary: string, target: string): Promise<boolean> {
    try {
      await session.link(temporary, target)
      return true
    } catch (error) {
      // "Failure" may mean that the name is taken. If it is, then this link did not make it: it was refused.
      if (!saysFailure(error)) throw error
      if (await exists(session, target)) return false
      throw error
    }
  }

  /** Does `work`; gives `absent` if the server says that the file or folder is not there and the store still is. */
  async #reading<T>(
    name: string,
    absent: T,
    options: CallOptions | undefined,
    work: (session: SftpSession) => Promise<T>,
  ): Promise<T> {
    return this.#pool.use(options?.signal, async (session) => {
      try {
        return await work(session)
      } catch (error) {
        if (!saysAbsent(error)) {
          throw sftpError(error, `Object ${name} could not be reached in ${this.description}`, NOTHING_CHANGED)
        }
      }
      await checkRoot(session, this.#root)
      return absent
    })
  }

  #path(name: string): string {
    return posix.join(this.#root, name)
  }
}

function descriptionOf({ user, host, port, path }: SftpPlace): string {
  return `sftp ${user}@${host}${port === 22 ? '' : `:${port}`}/${path.replace(/^\//, '')}`
}

async function begin(
  place: SftpPlace,
  open: (pool: SftpPool, description: string) => Promise<Storage>,
): Promise<Storage> {
  const pool = new SftpPool(place)
  const description = descriptionOf(place)
  try {
    return await open(pool, description)
  } catch (error) {
    await pool.close()
    throw sftpError(error, `${description} could not be opened`, 'Nothing was read or written.')
  }
}

function checkExtensions(session: SftpSession, description: string): void {
  const missing = session.missingExtension()
  if (missing === null) return
  throw new RegainError(
    'storage-unsuitable',
    `The server of ${description} ${missing}. It cannot hold a repository. Nothing was written.`,
    { hint: NOT_USABLE_HINT },
  )
}

/** The folder is there, and can be synced: what its names' durability hangs on. Nothing promises that, so it is tried. */
async function checkFolder(session: SftpSession, path: string, description: string): Promise<void> {
  if (!(await exists(session, path))) {
    throw new RegainError('storage-not-found', `There is no folder ${path} on the server of ${description}.`, {
      hint: 'Check the path, and that its disk is mounted there. A new destination is made with: regain init',
    })
  }
  try {
    await syncFolder(session, path)
  } catch (error) {
    if (!saysFailure(error)) throw error
    throw new RegainError(
      'storage-unsuitable',
      `The server of ${description} does not sync folders to disk, so a name could be lost in a power cut after it ` +
        'was acknowledged. It cannot hold a repository.',
      { cause: error, hint: NOT_USABLE_HINT },
    )
  }
}

async function makeFolders(session: SftpSession, path: string, description: string): Promise<void> {
  if (path === '/' || path === '.' || (await exists(session, path))) return
  await makeFolders(session, posix.dirname(path), description)
  try {
    await makeFolder(session, path)
  } catch (error) {
    throw sftpError(error, `The folder ${path} of ${description} could not be made`, 'Nothing was written.')
  }
}

/** Makes one folder in one that exists; fine if it is there. Its name is durable when this resolves. */
async function makeFolder(session: SftpSession, path: string): Promise<void> {
  try {
    await session.makeFolder(path)
  } catch (error) {
    // "Failure" is also what a name that is taken is answered with.
    if (!saysFailure(error) || !(await isFolder(session, path))) throw error
  }
  await syncFolder(session, posix.dirname(path))
}

/** The root is gone: unmounted or moved. An empty answer would look like a store that holds nothing. */
async function checkRoot(session: SftpSession, root: string): Promise<void> {
  let isThere: boolean
  try {
    isThere = await isFolder(session, root)
  } catch (error) {
    throw sftpError(error, `${root} could not be looked at`, NOTHING_CHANGED)
  }
  if (isThere) return
  throw new RegainError(
    'storage-unavailable',
    `The folder ${root} is no longer on the server: it was unmounted, moved or removed. What is in it cannot be told.`,
  )
}

async function exists(session: SftpSession, path: string): Promise<boolean> {
  try {
    await session.stat(path)
    return true
  } catch (error) {
    if (saysAbsent(error)) return false
    throw error
  }
}

async function isFolder(session: SftpSession, path: string): Promise<boolean> {
  const handle = await session.openFolder(path).catch((error: unknown) => {
    if (saysAbsent(error)) return null
    throw error
  })
  if (handle === null) return false
  await session.close(handle)
  return true
}

/** A folder of this name is not an object, so it is left. */
async function removeFile(session: SftpSession, path: string): Promise<void> {
  try {
    await session.remove(path)
  } catch (error) {
    if (!saysFailure(error) || !(await isFolder(session, path))) throw error
  }
}

/** For a failure's clean-up: what cannot be removed now is found when the store is opened in days to come. */
async function removeIfPossible(session: SftpSession, temporary: string): Promise<void> {
  await session.remove(temporary).catch(() => undefined)
}
