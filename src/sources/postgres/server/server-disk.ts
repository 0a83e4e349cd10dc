import { open, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { type ConnectionConfig, isLoopback } from '../protocol/connection-url.ts'

export interface ServerDisk {
  freeBytes: number
  totalBytes: number
}

/**
 * The file system that a server's log is on, if it can be seen from here: the server is on this machine, this user may look
 * into its folder, and that is the one of this very cluster (a container's path may mean something else here). Null otherwise.
 */
export async function diskOfServer(
  config: ConnectionConfig,
  dataDirectory: string | null,
  systemId: string,
): Promise<ServerDisk | null> {
  if (dataDirectory === null || !isLoopback(config)) return null
  try {
    if ((await systemOf(dataDirectory)) !== systemId) return null
    // Follows the link where the log has a volume of its own.
    const { bavail, blocks, bsize } = await statfs(join(dataDirectory, 'pg_wal'))
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
  } catch {
    // Not here, or not for this user to see: then nothing is known, and the policy goes by sizes.
    return null
  }
}

/** Decimal. ControlFileData begins with the system identifier (src/include/catalog/pg_control.h). */
export async function systemOf(dataDirectory: string): Promise<string> {
  const file = await open(join(dataDirectory, 'global', 'pg_control'), 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0)
    if (bytesRead < 8) throw new Error(`the control file in ${dataDirectory} is cut short`)
    return buffer.readBigUInt64LE().toString()
  } finally {
    await file.close()
  }
}
