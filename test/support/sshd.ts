import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { SftpPlace } from '../../src/storage/sftp.ts'
import { fingerprintOf } from '../../src/storage/sftp-host-key.ts'
import { temporaryFolder } from './repository.ts'

/** Debian's openssh-server on a free port of this machine, with its own configuration, keys and an ordinary user. */
export interface TestSshd {
  readonly port: number
  readonly user: string
  /** Private key that logs in. */
  readonly identity: string
  /** Of the host key. */
  readonly fingerprint: string
  /** Public part of the host key: 'ssh-ed25519 AAAA…'. */
  readonly hostKey: string
  /** Folder that the user may write to. */
  readonly home: string
  /** How to reach `path`, relative to home. */
  place(path: string): SftpPlace
  stop(): Promise<void>
}

const SSHD = '/usr/sbin/sshd'

/** `subsystem`: options of OpenSSH's SFTP server, for example `-P hardlink` for one that has no hard links. */
export async function startSshd({ subsystem = '' } = {}): Promise<TestSshd> {
  if (!existsSync(SSHD)) throw new Error(`${SSHD} is missing: scripts/test installs openssh-server`)
  const { path: folder, remove } = temporaryFolder()
  const user = serverUser()
  const home = join(folder, 'home')
  const hostKeyFile = join(folder, 'host_key')
  const identity = join(folder, 'identity')
  mkdirSync(home)
  for (const file of [hostKeyFile, identity]) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file])
  const port = await freePort()
  const settings = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${hostKeyFile}`,
    `AuthorizedKeysFile ${identity}.pub`,
    'PidFile none',
    // Without it, sshd takes Debian's system accounts for locked ones.
    'UsePAM yes',
    'StrictModes no',
    'PasswordAuthentication no',
    'MaxStartups 100',
    `Subsystem sftp internal-sftp ${subsystem}`,
  ]
  writeFileSync(join(folder, 'sshd_config'), `${settings.join('\n')}\n`)
  if (user.drop) {
    for (const file of [folder, home, hostKeyFile]) chownSync(file, user.drop.uid, user.drop.gid)
    chmodSync(folder, 0o755)
  }
  const child = spawn(SSHD, ['-D', '-e', '-f', join(folder, 'sshd_config')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    ...user.drop,
  })
  await listening(child)
  const [type, encoded] = readFileSync(`${hostKeyFile}.pub`, 'utf8').split(' ')
  const fingerprint = fingerprintOf(Buffer.from(encoded!, 'base64'))
  return {
    port,
    user: user.name,
    identity,
    fingerprint,
    hostKey: `${type} ${encoded}`,
    home,
    place: (path) => ({
      host: '127.0.0.1',
      port,
      user: user.name,
      login: { kind: 'identity', path: identity },
      hostKey: { fingerprint },
      path: join(home, path),
    }),
    async stop() {
      const ended = once(child, 'exit')
      child.kill()
      await ended
      remove()
    },
  }
}

/** Who the server runs as, and lets in: root drops to nobody, and everyone else runs it as they are. */
function serverUser(): { name: string; drop?: { uid: number; gid: number } } {
  if (process.geteuid?.() !== 0) return { name: userInfo().username }
  const [name, , uid, gid] = execFileSync('getent', ['passwd', 'nobody'], { encoding: 'utf8' }).split(':')
  return { name: name!, drop: { uid: Number(uid), gid: Number(gid) } }
}

async function listening(child: ChildProcess): Promise<void> {
  const said: string[] = []
  const lines = createInterface({ input: child.stderr! })
  await new Promise<void>((resolve, reject) => {
    lines.on('line', (line) => {
      said.push(line)
      if (line.includes('Server listening on')) resolve()
    })
    child.once('error', reject)
    child.once('exit', () => reject(new Error(`sshd did not start:\n${said.join('\n')}`)))
  })
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
