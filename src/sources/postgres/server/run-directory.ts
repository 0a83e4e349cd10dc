import { chmod, chown, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { ServerUser } from './server-user.ts'

/** Where a server keeps what it needs only while it runs: its socket, its log, programs that its user can reach. */
export interface RunDirectory {
  /** Made by us; others may pass through. */
  directory: string
  /** Below it, of the server's user alone. */
  private: string
}

/** In a data directory; left by a released server, it means nothing once that has ended. */
export const RUN_FOLDER = 'regain_server'
/** Also by running-server.ts and the demo, to know a folder that is theirs to remove. */
export const RUN_PREFIX = 'regain-pg-'

/** sun_path of unix(7), less its end. */
const SOCKET_PATH_BYTES = 107
const SOCKET_NAME_BYTES = '/.s.PGSQL.65535.lock'.length

/** A fresh folder in the system's temporary one. The caller removes it. */
export async function makeRunDirectory(scratch: string | undefined, user: ServerUser | null): Promise<RunDirectory> {
  // The name is short: see SOCKET_PATH_BYTES.
  return fill(await mkdtemp(join(scratch ?? tmpdir(), RUN_PREFIX)), user)
}

/** A fresh one inside a data directory, in the place of an older one; null if a socket's path would be too long there. */
export async function makeRunDirectoryIn(data: string, user: ServerUser | null): Promise<RunDirectory | null> {
  const directory = join(resolve(data), RUN_FOLDER)
  if (Buffer.byteLength(privateOf(directory)) + SOCKET_NAME_BYTES > SOCKET_PATH_BYTES) return null
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { mode: 0o700 })
  return fill(directory, user)
}

async function fill(directory: string, user: ServerUser | null): Promise<RunDirectory> {
  await chmod(directory, user ? 0o755 : 0o700)
  const private_ = privateOf(directory)
  await mkdir(private_, { mode: 0o700 })
  if (user) await chown(private_, user.uid, user.gid)
  return { directory, private: private_ }
}

function privateOf(directory: string): string {
  return join(directory, 's')
}

/** A port of the loopback interface that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => (address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port'))))
    })
  })
}
