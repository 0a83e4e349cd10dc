import { mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isRegainError, RegainError, throwIfInterrupted } from '../errors.ts'
import { claimInPlace, claimTarget, giveUpClaim, giveUpInPlace, type TargetClaim } from '../filesystem/target-claim.ts'
import type { Point } from '../model.ts'
import type { RestoreSummary } from '../sources/contract.ts'
import { openBook } from './book.ts'
import type { Application, Reporting } from './context.ts'
import { asRegainError } from './failures.ts'
import { noteRestore } from './note-restore.ts'
import { withRepository } from './repositories.ts'
import type { RestorePart, RestorePlan } from './restore-plan.ts'
import { openSourceForRestore } from './sources.ts'

/** What one source's restore came to. */
export interface RestoreOutcome extends RestoreSummary {
  service: string
  source: string
  destination: string
  /** Directory. */
  target: string
  point: Point
  startedAt: string
  durationMs: number
}

/**
 * Carries out exactly the plan, part by part, reporting each by `onOutcome` as it ends. Rejects with the first failure:
 * what that part had written is removed again (its target was empty) or, where it may be needed, said to be unfinished;
 * finished parts stay. Nothing is removed where someone else turned out to write too, and nothing taken back of what was written
 * over what was there.
 */
export async function restore(
  application: Application,
  plan: RestorePlan,
  reporting: Reporting,
  onOutcome: (outcome: RestoreOutcome) => void,
): Promise<RestoreOutcome[]> {
  const outcomes: RestoreOutcome[] = []
  // PostgreSQL does not run as root, and must be able to pass through to what is its own; nobody may look around.
  if (plan.parts.length > 1) await mkdir(plan.root, { recursive: true, mode: 0o711 })
  for (const part of plan.parts) {
    throwIfInterrupted(reporting.signal)
    const outcome = await restorePart(application, plan, part, reporting)
    outcomes.push(outcome)
    onOutcome(outcome)
  }
  return outcomes
}

async function restorePart(
  application: Application,
  plan: RestorePlan,
  part: RestorePart,
  reporting: Reporting,
): Promise<RestoreOutcome> {
  const { ambient } = application
  const { service, source, destination, point } = part
  const startedMs = ambient.now()
  const book = openBook(application, reporting)
  const noted = noteRestore(book, part, ambient)
  let claim: TargetClaim | null = null
  let isChanged = false
  try {
    const name = `${service.name}/${source.name}`
    claim = part.inPlace ? claimInPlace(part.directory, name) : claimTarget(part.directory, name)
    const resumes = claim.resumes === name
    // What another source's restore left there is changed already, and nobody's.
    if (claim.resumes !== null && !resumes) throw leftByAnother(part.directory, claim.resumes)
    const changing = (): void => {
      isChanged = true
    }
    const inPlace = part.inPlace ? { inPlace: { resumes, changing } } : {}
    const summary = await withRepository(application, service, destination, async (repository) => {
      const log = repository.log(source.name)
      const driver = await openSourceForRestore(application, { service, source, destination, log })
      const reader = await repository.openPoint(point.id, { signal: reporting.signal })
      try {
        const { directory, at, path, start, tablespaces } = part
        const only = part.onlyDatabases.length === 0 ? {} : { onlyDatabases: part.onlyDatabases }
        return await driver.restore(reader, { directory, at, path, start, tablespaces, ...only, ...inPlace }, reporting)
      } finally {
        await reader.close()
      }
    })
    noted.end({
      outcome: summary.missed.length === 0 && point.complete ? 'complete' : 'partial',
      // What it had to do: written, of what was there read, and log replayed.
      read: summary.bytes + (summary.over?.reusedBytes ?? 0) + (part.start ? part.logBytes : 0),
      files: summary.files,
    })
    return {
      ...summary,
      service: service.name,
      source: source.name,
      destination: destination.name,
      target: part.directory,
      point,
      startedAt: new Date(startedMs).toISOString(),
      durationMs: Math.max(0, ambient.now() - startedMs),
    }
  } catch (error) {
    noted.fail(asRegainError(error, reporting.signal))
    if (part.inPlace) {
      if (claim !== null) endInPlace(part, claim, isChanged, reporting)
      throw error
    }
    if (claim !== null) giveUpClaim(part.directory, claim)
    if (claim === null || isRegainError(error, 'target-not-empty')) await tellOfOthers(part, reporting)
    else if (part.start || isRegainError(error, 'repository-damaged')) await tellOfUnfinished(part, reporting)
    else await takeBack(application, plan, part, claim, reporting)
    throw error
  } finally {
    claim?.release()
    book?.close()
  }
}

function leftByAnother(directory: string, of: string): RegainError {
  return new RegainError(
    'target-not-empty',
    `${directory} holds a restore${of === '' ? '' : ` of ${of}`} that was cut short. Nothing in it was changed.`,
    { hint: 'Run that one again; or empty the directory.' },
  )
}

/** What it was before can't be had back: the claim stays, and the same command goes on with it. */
function endInPlace(part: RestorePart, claim: TargetClaim, isChanged: boolean, reporting: Reporting): void {
  if (!isChanged) {
    giveUpInPlace(part.directory, claim)
    return
  }
  reporting.warn(
    `${part.directory} is neither what it was nor what it was to become. Do not use it: run the same command again, which goes on where this one ended.`,
  )
}

/** The target was empty when the plan was made: what is there now may be another restore's, or a person's. */
async function tellOfOthers(part: RestorePart, reporting: Reporting): Promise<void> {
  if (!(await holdsAnything(part.directory))) return
  reporting.warn(
    `Nothing was removed from ${part.directory}, since not all of it may be this restore's. Do not take it for a whole one.`,
  )
}

/**
 * Kept with `start`, since a server's own traces may be all that tells why it did not come up; and when the repository is
 * damaged, since what could be read may be all that there is.
 */
async function tellOfUnfinished(part: RestorePart, reporting: Reporting): Promise<void> {
  if (!(await holdsAnything(part.directory))) return
  reporting.warn(`${part.directory} holds an unfinished restore. Do not use it; remove it before the next try.`)
}

/** Half a restore must not be mistaken for a whole one. */
async function takeBack(
  application: Application,
  plan: RestorePlan,
  part: RestorePart,
  claim: { made: boolean },
  reporting: Reporting,
): Promise<void> {
  try {
    for (const name of await readdir(part.directory)) {
      await rm(join(part.directory, name), { recursive: true, force: true })
    }
    // Below the root there was nothing: with this folder left in it, the same command would be refused.
    if (claim.made || part.directory !== plan.root) await rmdir(part.directory)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    application.ambient.log('debug', `Taking back: ${asRegainError(error, reporting.signal).message}`)
    reporting.warn(`${part.directory} holds an unfinished restore that could not be removed. Do not use it.`)
  }
}

/** False too for a directory that cannot be read: the failure that is being told says why. */
async function holdsAnything(directory: string): Promise<boolean> {
  const names = await readdir(directory).catch(() => [])
  return names.length > 0
}
