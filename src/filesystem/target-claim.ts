import {
  closeSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { isRegainError, RegainError } from '../errors.ts'
import { tryLockFile } from './libc.ts'
import { errorCode } from './system-error.ts'

/**
 * In a restore's target from before its first file until all of it is durable. It makes one of several restores into
 * the same directory the only one that writes, and what a killed one leaves can be told from a whole restore. A backup
 * of such a directory may hold the name: restores leave it out.
 */
export const CLAIM_NAME = '.regain-restore-unfinished'

const TEXT = 'A restore by Regain is at work here, or was cut short. Do not use what lies here.\n'

/** Held by the process that restores; nothing else may write to the directory meanwhile. */
export interface TargetClaim {
  /** The directory was not there. */
  made: boolean
  /** What an earlier restore was cut short in is gone on with; what that was of, as it was told. Null: none was. */
  resumes: string | null
  /** The claim itself stays until the restore is whole (materialize of the engine). Safe to repeat. */
  release(): void
}

/**
 * Makes the directory if it is not there, and claims it. Of any number that try at once exactly one succeeds. Rejects
 * with `target-not-empty`, having written nothing that stays, if anything is in it or another has it. `of` says what is
 * restored. Whoever brings back the last of the content removes the claim (materialize of the engine).
 */
export function claimTarget(directory: string, of = ''): TargetClaim {
  const made = makeTarget(directory)
  if (holdsOthers(directory)) throw notEmpty(directory)
  const fd = createClaim(directory, of)
  // One that was at work may have finished, and removed its claim, between the look and the claim.
  if (!holdsOthers(directory)) return held(fd, { made, resumes: null })
  unlinkSync(join(directory, CLAIM_NAME))
  closeSync(fd)
  throw notEmpty(directory)
}

/**
 * Claims a directory for a restore over what is in it. What an earlier restore left that was cut short is taken over:
 * whether that still runs, its lock tells. The claim is durable when this returns.
 */
export function claimInPlace(directory: string, of: string): TargetClaim {
  const made = makeTarget(directory)
  const path = join(directory, CLAIM_NAME)
  const left = orRefuse(directory, () => openLeft(path))
  if (left === null) {
    const fd = createClaim(directory, of)
    fsyncSync(fd)
    syncNames(directory)
    return held(fd, { made, resumes: null })
  }
  try {
    // The lock of a claim that is no longer there is nobody's.
    if (!lockLeft(left) || fstatSync(left).ino !== statSync(path, { throwIfNoEntry: false })?.ino)
      throw taken(directory)
    const resumes = readOf(readFileSync(left, 'utf8'))
    return held(left, { made: false, resumes })
  } catch (error) {
    closeSync(left)
    throw error
  }
}

/** What a claim that lies in the directory is of; null if there is none. */
export function claimedOf(directory: string): string | null {
  try {
    return readOf(readFileSync(join(directory, CLAIM_NAME), 'utf8'))
  } catch {
    // None, or not for us: whoever claims will be told.
    return null
  }
}

function readOf(text: string): string {
  return /^Of: (.*)$/m.exec(text)?.[1] ?? ''
}

function held(fd: number, claim: Omit<TargetClaim, 'release'>): TargetClaim {
  let isOpen = true
  const release = (): void => {
    if (isOpen) closeSync(fd)
    isOpen = false
  }
  return { ...claim, release }
}

function openLeft(path: string): number | null {
  try {
    return openSync(path, 'r+')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null
    throw error
  }
}

function syncNames(directory: string): void {
  const fd = openSync(directory, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/**
 * After a restore that failed before it wrote anything: the directory is as claimTarget found it. Else nothing happens.
 * Never throws: why the restore failed is what a person must hear.
 */
export function giveUpClaim(directory: string, { made }: { made: boolean }): void {
  try {
    if (readdirSync(directory).some((name) => name !== CLAIM_NAME)) return
    unlinkSync(join(directory, CLAIM_NAME))
    if (made) rmdirSync(directory)
  } catch {
    // The directory or its claim is gone already, or cannot be removed: then the claim stays and says what it must.
  }
}

/** The same of claimInPlace: the caller knows that nothing was changed, in this restore or one that it went on with. */
export function giveUpInPlace(directory: string, claim: TargetClaim): void {
  if (claim.resumes !== null) return
  try {
    unlinkSync(join(directory, CLAIM_NAME))
    if (claim.made) rmdirSync(directory)
  } catch {
    // As above.
  }
}

/** For a restore whose caller may have claimed the directory: made if absent, refused if it holds anything else. */
export function requireEmptyTarget(directory: string): void {
  makeTarget(directory)
  if (holdsOthers(directory)) throw notEmpty(directory)
}

function makeTarget(directory: string): boolean {
  return orRefuse(directory, () => {
    // Only the target is for this user alone: the server of a restored database has to get through its parents.
    mkdirSync(dirname(directory), { recursive: true })
    return mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined
  })
}

function holdsOthers(directory: string): boolean {
  return orRefuse(directory, () => readdirSync(directory).some((name) => name !== CLAIM_NAME))
}

function createClaim(directory: string, of: string): number {
  const fd = orRefuse(directory, () => {
    try {
      return openSync(join(directory, CLAIM_NAME), 'wx', 0o600)
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error
      throw taken(directory)
    }
  })
  try {
    orRefuse(directory, () => {
      writeSync(fd, `${TEXT}Of: ${of.replaceAll('\n', ' ')}\n`)
      // Another one took it for left behind, in the moment since it was made: it has it now.
      if (!lockIfPossible(fd)) throw taken(directory)
    })
    return fd
  } catch (error) {
    closeSync(fd)
    // What stands there is another one's only if it has the lock: a full disk, say, leaves one that nobody could go on with.
    if (!isRegainError(error, 'target-not-empty')) unlinkSync(join(directory, CLAIM_NAME))
    throw error
  }
}

/** Where a file system has no locks, it can't be told whether a claim is left behind: it counts as held. */
function lockLeft(fd: number): boolean {
  try {
    return tryLockFile(fd)
  } catch {
    return false
  }
}

/** A file system without locks is good enough for a new claim: then one that was left is never taken over. */
function lockIfPossible(fd: number): boolean {
  try {
    return tryLockFile(fd)
  } catch {
    return true
  }
}

function taken(directory: string): RegainError {
  return new RegainError(
    'target-not-empty',
    `Another restore into ${directory} is under way, or was cut short. Nothing was written.`,
    { hint: 'Wait for it; or, if none is running, empty the directory or name another one with --to.' },
  )
}

function notEmpty(directory: string): RegainError {
  return new RegainError(
    'target-not-empty',
    `${directory} is not empty. Nothing was written: a restore never touches existing data.`,
  )
}

/** What a directory that cannot be used means for the person who restores. */
function orRefuse<T>(directory: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    switch (errorCode(error)) {
      case 'ENOTDIR':
      case 'EEXIST':
        throw new RegainError('target-not-empty', `${directory} is not a directory. Nothing was written.`)
      case 'EACCES':
      case 'EPERM':
      case 'EROFS':
        throw new RegainError(
          'not-permitted',
          `${directory} can't be made, read or written: ${errorCode(error)}. Nothing was written.`,
        )
      case 'ENOSPC':
      case 'EDQUOT':
        throw new RegainError('target-full', `No space is left in ${directory}. Nothing was written.`)
      default:
        throw error
    }
  }
}
