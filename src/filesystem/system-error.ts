import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'

/** A failed system call, with the `code` that node's own errors carry. */
export class SystemError extends Error {
  readonly code: string
  readonly errno: number
  readonly syscall: string

  constructor(errno: number, syscall: string, subject: string) {
    const code = errnoName(errno)
    const meaning = getSystemErrorMap().get(-errno)?.[1] ?? 'unknown error'
    super(`${code}: ${meaning}, ${syscall}${subject === '' ? '' : ` '${subject}'`}`)
    this.name = 'SystemError'
    this.code = code
    this.errno = errno
    this.syscall = syscall
  }
}

/** The `code` of an error of node:fs or of this module; '' for anything else. */
export function errorCode(error: unknown): string {
  if (!(error instanceof Error) || !('code' in error)) return ''
  return typeof error.code === 'string' ? error.code : ''
}

/** For `catch` where a thing that is not there has a meaning: only that error becomes `value`, any other goes on. */
export function ifAbsent<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (!['ENOENT', 'ENOTDIR'].includes(errorCode(error))) throw error
    return value
  }
}

const ERRNO_NAMES = new Map<number, string>(Object.entries(constants.errno).map(([name, number]) => [number, name]))
// Linux gives both names to 95 and both to 11; these are the ones that node reports.
ERRNO_NAMES.set(95, 'ENOTSUP')
ERRNO_NAMES.set(11, 'EAGAIN')

function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `E${errno}`
}
