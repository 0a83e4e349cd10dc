import { constants } from 'node:fs'
import { open, stat, unlink } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { RegainError } from '../errors.ts'
import { errnoName, makeFolders, syncFolder } from '../filesystem/durable.ts'
import type { Ambient } from '../model.ts'
import type { KeyProvider, WrappedKey } from './contract.ts'
import { keyFileText, parseKeyFile } from './key-file-text.ts'
import { KEY_BYTES, kekId, unwrapKey, wrapKey } from './key-wrap.ts'

/**
 * A KEK kept in a file (key-file-text.ts). Reads it once here, so that a wrong path is told at once, and again for each
 * use, so that the KEK stays in memory for moments only: its bytes are zeroed after use. (The file's text passes through
 * strings, which JavaScript cannot erase.) Rejects with RegainError `key-unavailable`, as every use may.
 */
export async function openKeyFile(path: string): Promise<KeyProvider> {
  const file = resolve(path)
  const kek = await readKeyFile(file)
  kek.fill(0)
  return new FileKey(file)
}

/**
 * Makes a key file with a new random KEK, mode 0600, and missing folders, 0700; all durable when it resolves. Never
 * overwrites: rejects with `precondition-failed` if there is a file of that name; `not-permitted` without the rights.
 */
export async function createKeyFile(path: string, randomBytes: Ambient['randomBytes']): Promise<void> {
  const file = resolve(path)
  const kek = randomBytes(KEY_BYTES)
  try {
    await makeFolders(dirname(file))
    await writeNewFile(file, keyFileText(kek))
    await syncFolder(dirname(file))
  } catch (error) {
    throw creationError(file, error)
  } finally {
    kek.fill(0)
  }
}

/**
 * Makes a key file of the text of one, or of a key as `regain key export` prints it, in a folder that is there: a name with a
 * slip in it must not take the key to where nobody looks. As createKeyFile otherwise; rejects with `key-unavailable` if the
 * text holds no key, saying why and nothing of it.
 */
export async function importKeyFile(path: string, text: string): Promise<void> {
  const parsed = parseKeyFile(text)
  if ('kek' in parsed) {
    await requireFolder(dirname(resolve(path)))
    return createKeyFile(path, () => parsed.kek)
  }
  throw new RegainError('key-unavailable', `What was given ${parsed.problem}. No key file was made.`, {
    hint: 'Correct it and give it again.',
  })
}

async function requireFolder(folder: string): Promise<void> {
  const found = await stat(folder).catch((error: unknown) => {
    // What else is wrong with it, making the file tells.
    if (errnoName(error) !== 'ENOENT') return null
    throw new RegainError('precondition-failed', `There is no folder ${folder}. No key file was made.`, {
      cause: error,
      hint: `Make it first (mkdir -p -m 700 ${folder}), or correct the path.`,
    })
  })
  if (found === null || found.isDirectory()) return
  throw new RegainError('precondition-failed', `${folder} is no folder. No key file was made.`, {
    hint: 'Correct the path.',
  })
}

/** True if users besides the owner may read or change the file: worth a warning. Rejects like openKeyFile. */
export async function keyFileTooOpen(path: string): Promise<boolean> {
  const file = resolve(path)
  try {
    return ((await stat(file)).mode & 0o066) !== 0
  } catch (error) {
    throw readingError(file, error)
  }
}

class FileKey implements KeyProvider {
  readonly type = 'file'
  readonly description: string
  readonly #file: string

  constructor(file: string) {
    this.#file = file
    this.description = `file ${file}`
  }

  wrap(key: Buffer): Promise<WrappedKey> {
    return this.#withKek((kek) => ({
      type: this.type,
      kek: kekId(kek),
      wrapped: wrapKey(kek, key).toString('base64'),
    }))
  }

  /** Of any type: a KEK that was exported from a passphrase or a key service into a file opens what that wrapped. */
  unwrap(wrapped: WrappedKey): Promise<Buffer | null> {
    return this.#withKek((kek) => unwrapKey(kek, Buffer.from(wrapped.wrapped, 'base64')))
  }

  kekName(): Promise<string> {
    return this.#withKek(kekId)
  }

  /** Rejects with `wrong-key` if this KEK does not open the key given: what is exported must be good for it. */
  exportKey(wrapped: WrappedKey): Promise<Buffer | null> {
    return this.#withKek((kek) => {
      const key = unwrapKey(kek, Buffer.from(wrapped.wrapped, 'base64'))
      if (key === null) throw new RegainError('wrong-key', `The key in ${this.#file} does not open this repository.`)
      key.fill(0)
      return Buffer.from(kek)
    })
  }

  async #withKek<T>(use: (kek: Buffer) => T): Promise<T> {
    const kek = await readKeyFile(this.#file)
    try {
      return use(kek)
    } finally {
      kek.fill(0)
    }
  }
}

/** Far more than a key with its comments; a path to something else is told before much of it is read. */
const MAXIMUM_FILE_BYTES = 64 * 1024

async function readKeyFile(file: string): Promise<Buffer> {
  const bytes = await readSmallFile(file)
  const parsed = parseKeyFile(bytes.toString('utf8'))
  bytes.fill(0)
  if ('kek' in parsed) return parsed.kek
  throw unavailable(file, parsed.problem)
}

async function readSmallFile(file: string): Promise<Buffer> {
  try {
    // Without O_NONBLOCK a FIFO at that path would hold the call for ever.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const found = await handle.stat()
      if (!found.isFile()) throw unavailable(file, 'is not a regular file')
      if (found.size > MAXIMUM_FILE_BYTES) throw unavailable(file, 'is far too large to be a key file')
      return await handle.readFile()
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw readingError(file, error)
  }
}

async function writeNewFile(file: string, text: string): Promise<void> {
  const handle = await open(file, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } catch (error) {
    // Half a key file would stand in the way of the next attempt. If it cannot be removed either, reading it says what it is.
    await unlink(file).catch(() => undefined)
    throw error
  } finally {
    await handle.close()
  }
}

function readingError(file: string, error: unknown): unknown {
  const errno = errnoName(error)
  if (errno === undefined) return error
  return unavailable(file, errno === 'ENOENT' ? 'does not exist' : `cannot be read (${errno})`, error)
}

function unavailable(file: string, problem: string, cause?: unknown): RegainError {
  return new RegainError(
    'key-unavailable',
    `The key file ${file} ${problem}. Without its key, what it protects can be neither written nor read; nothing was changed.`,
    { cause, hint: 'Put the key file back from the copy that is kept elsewhere, or correct its path or rights.' },
  )
}

function creationError(file: string, error: unknown): unknown {
  const errno = errnoName(error)
  if (errno === undefined) return error
  if (errno === 'EEXIST') {
    return new RegainError(
      'precondition-failed',
      `There is a file ${file} already. It may be the only key to existing backups, so it was left as it is.`,
      { cause: error, hint: 'Use that key, or name another path for the new one.' },
    )
  }
  const denied = errno === 'EACCES' || errno === 'EPERM' || errno === 'EROFS'
  return new RegainError(
    denied ? 'not-permitted' : 'key-unavailable',
    `The key file ${file} could not be made (${errno}). No key was made.`,
    { cause: error, hint: 'Name a path that this user can write to, on a disk with free space.' },
  )
}
