import { closeSync, mkdirSync, openSync, readdirSync, rmdirSync, unlinkSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { RegainError } from '../errors.ts'
import { errorCode } from './system-error.ts'

/**
 * In a restore's target from before its first file until all of it is durable. It makes one of several restores into
 * the same directory the only one that writes, and what a killed one leaves can be told from a whole restore. A backup
 * of such a directory may hold the name: restores leave it out.
 */
export const CLAIM_NAME = '.regain-restore-unfinished'

const TEXT = 'A restore by Regain is at work here, or was cut short. Do not use what lies here.\n'

/**
 * Makes the directory if it is not there, and claims it. Of any number that try at once exactly one succeeds. Rejects
 * with `target-not-empty`, having written nothing that stays, if anything is in it or another has it. `made`: the
 * directory was not there. Whoever brings back the last of the content removes the claim (materialize of the engine).
 */
export function claimTarget(directory: string): { made: boolean } {
  const made = makeTarget(directory)
  if (holdsOthers(directory)) throw notEmpty(directory)
  createClaim(directory)
  // One that was at work may have finished, and removed its claim, between the look and the claim.
  if (!holdsOthers(directory)) return { made }
  unlinkSync(join(directory, CLAIM_NAME))
  throw notEmpty(directory)
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

function createClaim(directory: string): void {
  const fd = orRefuse(directory, () => {
    try {
      return openSync(join(directory, CLAIM_NAME), 'wx', 0o600)
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error
      throw new RegainError(
        'target-not-empty',
        `Another restore into ${directory} is under way, or was cut short. Nothing was written.`,
        { hint: 'Wait for it; or, if none is running, empty the directory or name another one with --to.' },
      )
    }
  })
  try {
    orRefuse(directory, () => writeSync(fd, TEXT))
  } catch (error) {
    unlinkSync(join(directory, CLAIM_NAME))
    throw error
  } finally {
    closeSync(fd)
  }
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
