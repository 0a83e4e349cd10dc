import { RegainError } from '../errors.ts'

/**
 * Names of objects, the same for every store: relative, `/`-separated, of [A-Za-z0-9._-] components, none of them `.`
 * or `..`, at most 200 characters. What is found in a store goes through the same gate as what is asked of it, so
 * that a foreign file or a leftover never shows up as an object.
 */
export const MAXIMUM_NAME_LENGTH = 200

const COMPONENT = /^[A-Za-z0-9._-]+$/

export function isObjectName(name: string): boolean {
  if (name.length > MAXIMUM_NAME_LENGTH) return false
  return name.split('/').every(isComponent)
}

/** What `list` takes: the empty text, or a name followed by `/`. */
export function isPrefix(prefix: string): boolean {
  return prefix === '' || (prefix.endsWith('/') && isObjectName(prefix.slice(0, -1)))
}

/**
 * Throws RegainError `internal`: the engine checks what it reads from a repository before it makes names of it, so a
 * bad name here is a bug, and stopping is what keeps it from reaching outside the store.
 */
export function checkObjectName(name: string): void {
  if (isObjectName(name)) return
  throw new RegainError('internal', `${quote(name)} is not a name for an object. Nothing was read or written.`)
}

/** Like checkObjectName, for the argument of `list`. */
export function checkPrefix(prefix: string): void {
  if (isPrefix(prefix)) return
  throw new RegainError('internal', `${quote(prefix)} is not a prefix of names: it must be empty or end in "/".`)
}

function isComponent(component: string): boolean {
  return COMPONENT.test(component) && component !== '.' && component !== '..'
}

/** Control characters escaped, and cut to a length that fits a log line. */
function quote(name: string): string {
  return JSON.stringify(name.length <= MAXIMUM_NAME_LENGTH ? name : `${name.slice(0, MAXIMUM_NAME_LENGTH)}…`)
}
