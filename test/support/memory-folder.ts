import { existsSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'

/** A folder in memory where there is plenty: what a disk syncs hundreds of times over tells most tests nothing. */
export function memoryFolder(): string {
  return hasRoom('/dev/shm') ? '/dev/shm' : tmpdir()
}

function hasRoom(folder: string): boolean {
  if (!existsSync(folder)) return false
  const { bavail, bsize } = statfsSync(folder)
  return bavail * bsize > 2 * 1024 ** 3
}
