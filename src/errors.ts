/**
 * Every error a person can meet: one table of stable codes. docs/errors.md is written from it (scripts/docs).
 *
 * A message says what happened and what it means for the data; the hint says what to do next. Neither ever holds a
 * secret. Errors that are not a RegainError are bugs and are reported as code `internal`.
 */

interface ErrorClass {
  /** Exit status of the command (docs/cli.md). */
  exit: number
  /** Whether the same command may work later without anything being changed. */
  retryable: boolean
  /** What to do when the throw site says nothing better. */
  hint: string
}

export const ERRORS = {
  internal: {
    exit: 1,
    retryable: false,
    hint: 'This is a bug in Regain: please report it with the output of the command run with --verbose.',
  },
  usage: { exit: 2, retryable: false, hint: 'See regain --help.' },
  'config-invalid': { exit: 2, retryable: false, hint: 'Correct the configuration and run: regain config check' },
  'config-not-found': { exit: 2, retryable: false, hint: 'Make one with: regain init' },
  'not-permitted': { exit: 5, retryable: false, hint: 'Run as a user who may do this.' },
  'target-not-empty': { exit: 6, retryable: false, hint: 'Name an empty or new directory with --to.' },
  'precondition-failed': { exit: 6, retryable: false, hint: 'Run: regain check' },
  'target-full': {
    exit: 1,
    retryable: true,
    hint: 'Free space at the target. Then restore again into an empty directory; what was begun with --in-place goes on with the same command.',
  },
  'point-not-found': { exit: 6, retryable: false, hint: 'List what there is with: regain points' },
  'moment-unreachable': {
    exit: 6,
    retryable: false,
    hint: 'Choose a moment inside the window that regain points shows.',
  },
  'repository-not-found': {
    exit: 10,
    retryable: false,
    hint: 'If it was there before, find out whether its disk is mounted. Else make it with: regain init',
  },
  'repository-exists': { exit: 6, retryable: false, hint: 'Use the existing repository, or name another place.' },
  'repository-version': { exit: 1, retryable: false, hint: 'Use a version of Regain that knows this format.' },
  'repository-damaged': {
    exit: 4,
    retryable: false,
    hint: 'Run: regain verify --read-data, which names every point that is hurt.',
  },
  'wrong-key': {
    exit: 12,
    retryable: false,
    hint: 'Give the key that this repository was made with, or one added to it later.',
  },
  'key-unavailable': {
    exit: 12,
    retryable: true,
    hint: 'Check that the key file exists and can be read, or that the key service answers.',
  },
  'key-replaced': {
    exit: 1,
    retryable: true,
    hint: 'Run the command again: it opens the repository with the new data key.',
  },
  'source-unavailable': {
    exit: 1,
    retryable: true,
    hint: 'Check that the source is running and can be reached: regain check',
  },
  'source-unsuitable': { exit: 6, retryable: false, hint: 'Run: regain check' },
  'source-not-resumed': {
    exit: 1,
    retryable: false,
    hint: 'Run the `after` command by hand now, and find out why it failed. The recovery point is whole and needs no repeating.',
  },
  'log-conflict': {
    exit: 1,
    retryable: false,
    hint: 'Two servers may be writing the same log. Find out which one is right before going on.',
  },
  'storage-not-found': { exit: 4, retryable: false, hint: 'Run: regain verify' },
  'storage-full': {
    exit: 1,
    retryable: true,
    hint: 'Free space at the destination, for example by shorter retention and regain prune; committed points are not affected.',
  },
  'storage-denied': { exit: 5, retryable: false, hint: 'Give this user the right to read and write the destination.' },
  'storage-locked': {
    exit: 5,
    retryable: true,
    hint: 'It can be removed once its lock has ended; regain prune does that.',
  },
  'storage-unsuitable': {
    exit: 6,
    retryable: false,
    hint: 'Find out what the store lacks with: regain repository check',
  },
  'storage-unavailable': {
    exit: 1,
    retryable: true,
    hint: 'Check the destination; committed points are not affected.',
  },
  'session-fenced': { exit: 1, retryable: true, hint: 'Run the backup again; what it had stored may be used again.' },
  'verification-failed': { exit: 4, retryable: false, hint: 'Run: regain verify --read-data' },
  interrupted: { exit: 130, retryable: true, hint: 'Nothing half-done is visible. Run the command again.' },
} as const satisfies Record<string, ErrorClass>

export type ErrorCode = keyof typeof ERRORS

export class RegainError extends Error {
  readonly code: ErrorCode
  readonly hint: string

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'RegainError'
    this.code = code
    this.hint = options.hint ?? ERRORS[code].hint
  }

  get exit(): number {
    return ERRORS[this.code].exit
  }

  get retryable(): boolean {
    return ERRORS[this.code].retryable
  }
}

export function isRegainError(error: unknown, code?: ErrorCode): error is RegainError {
  return error instanceof RegainError && (code === undefined || error.code === code)
}

/** Throws `interrupted` if the signal has fired. Call it at the top of every loop that can run long. */
export function throwIfInterrupted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new RegainError('interrupted', 'The operation was interrupted.', { cause: signal.reason })
}
