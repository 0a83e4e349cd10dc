import type { FileEntryWithStats, SFTPWrapper, Stats } from 'ssh2'

/** What the server must offer besides SFTP version 3, with what is lost without it. OpenSSH: PROTOCOL, section 4. */
const REQUIRED_EXTENSIONS: readonly [name: string, why: string][] = [
  ['posix-rename@openssh.com', 'an object cannot be replaced in one step'],
  ['hardlink@openssh.com', 'an object cannot be made by exactly one of several writers'],
  ['fsync@openssh.com', 'nothing can be known to have reached the disk'],
]

/** Status codes of SFTP version 3 (draft-ietf-secsh-filexfer-02, section 7). There are none for "exists" or "full". */
export const SFTP_STATUS = { endOfFile: 1, noSuchFile: 2, permissionDenied: 3, failure: 4, badMessage: 5 } as const

/** Files are made for their owner only. */
const FILE_MODE = 0o600
const FOLDER_MODE = 0o700

/** The connection ended before the answer came: whether the request was carried out is unknown. */
export class ConnectionLost extends Error {}

type Callback<T> = (error: Error | null | undefined, value: T) => void

/**
 * The requests of one SFTP session as promises. Each is answered exactly once: by the server, or with ConnectionLost
 * when the connection ends; ssh2 itself forgets requests made at the wrong moment.
 */
export class SftpSession {
  readonly #sftp: SFTPWrapper
  readonly #pending = new Set<(error: Error) => void>()
  #lost: ConnectionLost | null = null

  constructor(sftp: SFTPWrapper) {
    this.#sftp = sftp
  }

  /** Fails every request that is under way, and all later ones. */
  end(reason: string): void {
    this.#lost ??= new ConnectionLost(reason)
    for (const fail of [...this.#pending]) fail(this.#lost)
  }

  get isLost(): boolean {
    return this.#lost !== null
  }

  /** What the server lacks, in words; null if it has all that is needed. */
  missingExtension(): string | null {
    // Not in the package's types. Set from the server's first answer, before the session is handed out.
    const { _extensions: offered } = this.#sftp as unknown as { _extensions: Record<string, string> }
    const missing = REQUIRED_EXTENSIONS.find(([name]) => offered[name] !== '1')
    return missing === undefined ? null : `does not offer ${missing[0]}, and without it ${missing[1]}`
  }

  /** An existing file, or a folder, which OpenSSH opens like one. */
  openToRead(path: string): Promise<Buffer> {
    return this.#request((done) => this.#sftp.open(path, 'r', done))
  }

  openNew(path: string): Promise<Buffer> {
    return this.#request((done) => this.#sftp.open(path, 'wx', { mode: FILE_MODE }, done))
  }

  async close(handle: Buffer): Promise<void> {
    await this.#request<void>((done) => this.#sftp.close(handle, (error) => done(error, undefined)))
  }

  /** The number of bytes that were put into `target`; 0 at the end of the file. */
  read(handle: Buffer, target: Buffer, offset: number, length: number, position: number): Promise<number> {
    return this.#request((done) => this.#sftp.read(handle, target, offset, length, position, done))
  }

  /** `bytes` are copied before this returns. */
  async write(handle: Buffer, bytes: Buffer, position: number): Promise<void> {
    await this.#request<void>((done) =>
      this.#sftp.write(handle, bytes, 0, bytes.length, position, (error) => done(error, undefined)),
    )
  }

  async sync(handle: Buffer): Promise<void> {
    await this.#request<unknown>((done) => this.#sftp.ext_openssh_fsync(handle, done))
  }

  statHandle(handle: Buffer): Promise<Stats> {
    return this.#request((done) => this.#sftp.fstat(handle, done))
  }

  /** Of the name itself, not of what a symbolic link leads to. */
  stat(path: string): Promise<Stats> {
    return this.#request((done) => this.#sftp.lstat(path, done))
  }

  /** Free bytes for this user on the file system that holds `path`; null if the server does not tell. */
  async freeBytes(path: string): Promise<number | null> {
    try {
      const space = await this.#request<{ f_bavail: number; f_frsize: number }>((done) =>
        this.#sftp.ext_openssh_statvfs(path, done),
      )
      return Number(space.f_bavail) * Number(space.f_frsize)
    } catch (error) {
      // An extension that few servers besides OpenSSH have; only messages are made from the answer.
      if (error instanceof ConnectionLost) throw error
      return null
    }
  }

  openFolder(path: string): Promise<Buffer> {
    return this.#request((done) => this.#sftp.opendir(path, done))
  }

  /** The next entries of a folder that was opened, with attributes of the names themselves; null: there are no more. */
  async readFolder(handle: Buffer): Promise<FileEntryWithStats[] | null> {
    try {
      return await this.#request<FileEntryWithStats[]>((done) => this.#sftp.readdir(handle as never, done))
    } catch (error) {
      if (statusOf(error) === SFTP_STATUS.endOfFile) return null
      throw error
    }
  }

  async makeFolder(path: string): Promise<void> {
    await this.#request<void>((done) =>
      this.#sftp.mkdir(path, { mode: FOLDER_MODE }, (error) => done(error, undefined)),
    )
  }

  /** Replaces what has the new name, in one step. */
  async rename(from: string, to: string): Promise<void> {
    await this.#request<void>((done) => this.#sftp.ext_openssh_rename(from, to, (error) => done(error, undefined)))
  }

  /** Gives a file a second name; fails if that exists. */
  async link(from: string, to: string): Promise<void> {
    await this.#request<void>((done) => this.#sftp.ext_openssh_hardlink(from, to, (error) => done(error, undefined)))
  }

  async remove(path: string): Promise<void> {
    await this.#request<void>((done) => this.#sftp.unlink(path, (error) => done(error, undefined)))
  }

  #request<T>(start: (done: Callback<T>) => void): Promise<T> {
    if (this.#lost) return Promise.reject(this.#lost)
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => {
        this.#pending.delete(fail)
        reject(error)
      }
      this.#pending.add(fail)
      start((error, value) => {
        if (error) return fail(error)
        this.#pending.delete(fail)
        resolve(value)
      })
    })
  }
}

/** The server's status code, if the error is the server's answer. */
export function statusOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || error instanceof ConnectionLost || !('code' in error)) return undefined
  return typeof error.code === 'number' ? error.code : undefined
}
