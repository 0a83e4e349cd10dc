import { RegainError } from '../errors.ts'

/** Throws RegainError `internal` unless the range is one that `Storage.get` takes: whole, not negative, not beyond 2^53. */
export function checkRange(range: { offset: number; length: number } | undefined): void {
  if (range === undefined) return
  const { offset, length } = range
  if (offset >= 0 && length >= 0 && Number.isSafeInteger(offset) && Number.isSafeInteger(offset + length)) return
  throw new RegainError('internal', `A range of ${length} bytes from ${offset} cannot be read.`)
}
