import { readFile, stat } from 'node:fs/promises'
import { RegainError } from '../../../errors.ts'
import { ifAbsent } from '../../../filesystem/system-error.ts'

/** The account a PostgreSQL server runs as: it refuses to run as root. */
export interface ServerUser {
  uid: number
  gid: number
}

/**
 * Whom to run the server of `directory` as. Null: as ourselves, since only root can choose. Root takes the directory's
 * owner if that is not root, else this machine's `postgres`, else `nobody`.
 */
export async function serverUser(directory: string): Promise<ServerUser | null> {
  if (process.getuid?.() !== 0) return null
  const owner = await stat(directory).catch(ifAbsent(null))
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  const accounts = await readFile('/etc/passwd', 'utf8')
  for (const name of ['postgres', 'nobody']) {
    const user = parseAccount(accounts, name)
    if (user) return user
  }
  throw new RegainError(
    'precondition-failed',
    'PostgreSQL refuses to run as root, and this machine has neither a user postgres nor nobody.',
    {
      hint: 'Run as an ordinary user, or make one: adduser --system postgres',
    },
  )
}

/**
 * Who shall own a data directory that root restores: this machine's `postgres`, else whoever owned it where it came
 * from, else `nobody`. Null when we are not root.
 */
export async function restoreUser(directory: string): Promise<ServerUser | null> {
  if (process.getuid?.() !== 0) return null
  const accounts = await readFile('/etc/passwd', 'utf8')
  return parseAccount(accounts, 'postgres') ?? serverUser(directory)
}

/** uid and gid of `name` from the text of /etc/passwd. */
export function parseAccount(passwd: string, name: string): ServerUser | null {
  for (const line of passwd.split('\n')) {
    const [account, , uid, gid] = line.split(':')
    if (account === name && Number(uid) > 0) return { uid: Number(uid), gid: Number(gid) }
  }
  return null
}

/** Every uid that the text of /etc/passwd gives to somebody. */
export function uidsIn(passwd: string): Set<number> {
  return new Set(passwd.split('\n').map((line) => Number(line.split(':')[2])))
}
