import { execFile } from 'node:child_process'
import { appendFile, chown, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RegainError } from '../../../errors.ts'
import { type PostgresBinaries, reachableBinaries } from './binaries.ts'
import { makeRunDirectory } from './run-directory.ts'
import { type ServerUser, serverUser } from './server-user.ts'
import { settingLine } from './settings.ts'

export interface InitOptions {
  binaries: PostgresBinaries
  /** Absent or empty; made if absent and given to the server's user. */
  directory: string
  /** Name of the first role. Default 'postgres'. */
  superuser?: string
  /** With one, every connection needs it (SCRAM); without, anyone who reaches the server is trusted. */
  password?: string
  /** Lines for postgresql.conf. */
  settings?: Record<string, string>
  dataChecksums?: boolean
  walSegmentMegabytes?: number
  signal: AbortSignal
  scratch?: string
}

/** Makes a new database cluster in `directory`, UTF-8 with the C locale, without fsync: it holds nothing yet. */
export async function initDatabase(options: InitOptions): Promise<void> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 })
  const user = await serverUser(options.directory)
  const run = await makeRunDirectory(options.scratch, user)
  try {
    const binaries = await reachableBinaries(options.binaries, user, run.directory)
    if (user) await chown(options.directory, user.uid, user.gid)
    const arguments_ = [
      '-D',
      options.directory,
      '-U',
      options.superuser ?? 'postgres',
      '-E',
      'UTF8',
      '--locale=C',
      '--no-sync',
    ]
    if (options.password !== undefined) {
      // A file, because a process list shows arguments.
      const file = join(run.private, 'password')
      await writeFile(file, `${options.password}\n`, { mode: 0o600 })
      if (user) await chown(file, user.uid, user.gid)
      arguments_.push(`--pwfile=${file}`, '--auth=scram-sha-256')
    } else arguments_.push('--auth=trust')
    if (options.dataChecksums) arguments_.push('--data-checksums')
    // Version 18 turned checksums on by default, and only it knows how to be told otherwise.
    else if (options.dataChecksums === false && binaries.major >= 18) arguments_.push('--no-data-checksums')
    if (options.walSegmentMegabytes) arguments_.push(`--wal-segsize=${options.walSegmentMegabytes}`)
    await runProgram(join(binaries.directory, 'initdb'), arguments_, user, options.signal)
    const lines = Object.entries(options.settings ?? {}).map(([name, value]) => settingLine(name, value))
    await appendFile(join(options.directory, 'postgresql.conf'), lines.join(''))
  } finally {
    await rm(run.directory, { recursive: true, force: true })
  }
}

function runProgram(
  program: string,
  arguments_: string[],
  user: ServerUser | null,
  signal: AbortSignal,
): Promise<void> {
  const options = { cwd: '/', signal, ...(user ? { uid: user.uid, gid: user.gid } : {}) }
  return new Promise((resolve, reject) => {
    execFile(program, arguments_, options, (error, stdout, stderr) => {
      if (!error) return resolve()
      if (signal.aborted)
        return reject(new RegainError('interrupted', 'Making the database cluster was interrupted.', { cause: error }))
      const said = (stderr.trim() || stdout.trim()).split('\n').slice(-5).join('\n')
      reject(
        new RegainError('precondition-failed', `initdb could not make a database cluster. It said:\n${said}`, {
          cause: error,
        }),
      )
    })
  })
}
