import { readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'

/** A PostgreSQL server of this machine that seems to be running. */
export interface FoundServer {
  /** For people: 'the socket /var/run/postgresql, port 5432'. */
  description: string
  host: string
  port: number
}

const SOCKET_FOLDERS = ['/var/run/postgresql', '/tmp']
const DEFAULT_PORT = 5432
const CONNECT_LIMIT_MS = 1000

/** Looks where PostgreSQL listens by default, and where PGHOST and PGPORT say. Only ever connects to this machine. */
export async function discoverPostgres(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<FoundServer[]> {
  const host = environment.PGHOST
  const folders = [...(host?.startsWith('/') ? [host] : []), ...SOCKET_FOLDERS]
  const port = Number(environment.PGPORT ?? DEFAULT_PORT)
  const found: FoundServer[] = []
  for (const folder of new Set(folders)) found.push(...(await serversOfFolder(folder)))
  const loopback = host === 'localhost' || host === '::1' ? host : '127.0.0.1'
  const isListed = found.some((server) => server.port === port)
  if (!isListed && Number.isInteger(port) && (await accepts({ host: loopback, port }))) {
    found.push({ description: `${loopback}, port ${port}`, host: loopback, port })
  }
  return found
}

async function serversOfFolder(folder: string): Promise<FoundServer[]> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch {
    // No such folder, or not ours to read: no server that we could use there.
    return []
  }
  const found: FoundServer[] = []
  for (const name of names) {
    const port = /^\.s\.PGSQL\.(\d+)$/.exec(name)?.[1]
    // A crashed server leaves its socket behind.
    if (port === undefined || !(await accepts({ path: join(folder, name) }))) continue
    found.push({ description: `the socket in ${folder}, port ${port}`, host: folder, port: Number(port) })
  }
  return found
}

function accepts(address: { path: string } | { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address)
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(CONNECT_LIMIT_MS, () => end(false))
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })
}
