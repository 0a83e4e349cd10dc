import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { type ServerUser, uidsIn } from '../server/server-user.ts'

const execute = promisify(execFile)

/**
 * What keeps a copy from doing anything to the world while it is only read. Each of these stands for something that a
 * server begins by itself: its archive, its subscriptions, the workers of its libraries (pg_cron and such), its vacuum.
 */
const HARMLESS: Readonly<Record<string, string>> = {
  // Only by its Unix socket, in a folder that is its user's alone.
  listen_addresses: '',
  unix_socket_permissions: '0700',
  archive_mode: 'off',
  max_logical_replication_workers: '0',
  // Libraries may be needed to read what they store, so they are loaded; no worker that they register is started.
  max_worker_processes: '0',
  max_wal_senders: '0',
  synchronous_standby_names: '',
  session_preload_libraries: '',
  local_preload_libraries: '',
  autovacuum: 'off',
  // Certificates of the original's machine need not be here, nor its memory.
  ssl: 'off',
  shared_buffers: '128MB',
  huge_pages: 'off',
  max_wal_size: '1GB',
  jit: 'off',
  // It is thrown away after one use.
  fsync: 'off',
  full_page_writes: 'off',
}

export function harmlessSettings(major: number): Record<string, string> {
  // Since 17 a trigger can run when somebody connects.
  return major >= 17 ? { ...HARMLESS, event_triggers: 'off' } : { ...HARMLESS }
}

/** Numbers that neither distributions nor systemd give to anybody (systemd.io/UIDS-GIDS). */
const FREE_FROM = 60_578
const FREE_COUNT = 606

/**
 * For root: a user that nobody else is, so that nothing on this machine is the copy's to change: replaying the creation
 * of a tablespace would otherwise empty the original's directory. Null: we are not root, and the server runs as we do.
 */
export async function sandboxUser(): Promise<ServerUser | null> {
  if (process.getuid?.() !== 0) return null
  const taken = uidsIn(await readFile('/etc/passwd', 'utf8'))
  for (let tries = 0; tries < FREE_COUNT; tries++) {
    const uid = FREE_FROM + ((process.pid + tries) % FREE_COUNT)
    if (!taken.has(uid)) return { uid, gid: uid }
  }
  return { uid: FREE_FROM, gid: FREE_FROM }
}

/** Without network, and not outliving us: each where the system lets this user have it. */
export async function isolatingWrapper(user: ServerUser | null): Promise<string[]> {
  const noNetwork = ['/usr/bin/unshare', '--user', '--map-current-user', '--net', '--']
  // QUIT is PostgreSQL's immediate shutdown. Last: the kernel forgets it when rights change.
  const endsWithUs = ['/usr/bin/setpriv', '--pdeathsig', 'QUIT', '--']
  const wrapper = (await works(noNetwork, user)) ? noNetwork : []
  return (await works([...wrapper, ...endsWithUs], user)) ? [...wrapper, ...endsWithUs] : wrapper
}

async function works([program = '', ...rest]: readonly string[], user: ServerUser | null): Promise<boolean> {
  const options = { cwd: '/', timeout: 10_000, ...(user ? { uid: user.uid, gid: user.gid } : {}) }
  // That it does not run is the answer: not installed, or not allowed in this container.
  return execute(program, [...rest, '/bin/true'], options).then(
    () => true,
    () => false,
  )
}
