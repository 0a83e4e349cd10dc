import type { RegainError } from '../errors.ts'

/**
 * Failures of writes of which it is certain that nothing was done: the connection was refused, the store turned the
 * request down for its load. Only these may be sent again as they are; after any other the outcome is unknown.
 */
const certain = new WeakSet<RegainError>()

export function markNotApplied(error: RegainError): RegainError {
  certain.add(error)
  return error
}

/** For what fails after a write was sent: whatever it says of itself, the write may have been carried out. */
export function markUnclear(error: unknown): void {
  certain.delete(error as RegainError)
}

export function isNotApplied(error: unknown): boolean {
  return certain.has(error as RegainError)
}

/** What a failure says of the data. `attempt` begins with `Object` where one was named; all else only asks. */
export function outcomeOf(attempt: string): string {
  return attempt.startsWith('Object ') ? 'It was carried out whole or not at all.' : 'Nothing was changed.'
}
