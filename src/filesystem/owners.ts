import { readFileSync } from 'node:fs'
import { errorCode } from './libc.ts'

/**
 * Names of users and groups, for people who read a listing; restore uses the numbers. Read once from the local files:
 * names that only a directory service knows stay numbers, which costs nothing but the name.
 */
export interface OwnerNames {
  user(uid: number): string | undefined
  group(gid: number): string | undefined
}

export function readOwnerNames(files = { passwd: '/etc/passwd', group: '/etc/group' }): OwnerNames {
  const users = readNames(files.passwd)
  const groups = readNames(files.group)
  return { user: (uid) => users.get(uid), group: (gid) => groups.get(gid) }
}

/** passwd(5) and group(5) both have the name in the first field and the number in the third. */
function readNames(file: string): Map<number, string> {
  const names = new Map<number, string>()
  for (const line of readIfThere(file).split('\n')) {
    const [name, , number] = line.split(':')
    if (!name || !number || !/^\d+$/.test(number)) continue
    // The first line wins, as in getpwuid.
    if (!names.has(Number(number))) names.set(Number(number), name)
  }
  return names
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    // A container without one: everything stays a number.
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'EACCES') return ''
    throw error
  }
}
