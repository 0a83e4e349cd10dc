import { lstatSync, statfsSync } from 'node:fs'
import { isRegainError, throwIfInterrupted } from '../../errors.ts'
import { displayPath } from '../../filesystem/names.ts'
import { reach } from '../../filesystem/reach.ts'
import type { EntryPath, Finding } from '../../model.ts'
import type { SourceOptions } from '../contract.ts'
import { runCommand } from './commands.ts'
import { Excludes } from './exclude.ts'
import { isKernelFileSystem } from './kernel-file-systems.ts'
import { absolutePath, isWithin, locateRoots, type Roots, realPath, wantedPaths } from './roots.ts'
import { Walk } from './walk.ts'

export interface FilesCheck {
  paths: readonly string[]
  exclude: readonly string[]
  skip: readonly string[]
  crossFileSystems: boolean
  before?: string | undefined
  after?: string | undefined
}

const LOOKUP_LIMIT_MS = 10_000
/** Folders that are looked into for a first file. */
const LOOK_ENTRIES = 10_000

/** Looks at paths, patterns, rights and commands. Runs none of the commands and changes nothing. */
export async function checkFiles(plan: FilesCheck, options: SourceOptions): Promise<Finding[]> {
  const roots = rootsOrFinding(plan)
  if ('code' in roots) return [roots]
  const findings = [
    ...roots.absent.map(absentFinding),
    ...roots.links.map(linkFinding),
    ...wantedPaths(roots).flatMap((path) => pathFindings(path, plan.skip)),
    ...excludeFindings(plan.exclude, roots.root),
    ...rightsFindings(roots),
    ...(await commandFindings(plan, options)),
  ]
  if (findings.some((finding) => finding.severity === 'error')) return findings
  const named = wantedPaths(roots).map(displayPath).join(', ')
  return [
    { severity: 'ok', code: 'paths', message: `${named} can be read.` },
    ...findings,
    ...emptyFindings(plan, roots, options),
  ]
}

function rootsOrFinding(plan: FilesCheck): Roots | Finding {
  try {
    return locateRoots(plan.paths)
  } catch (error) {
    if (!isRegainError(error, 'config-invalid')) throw error
    return { severity: 'error', code: 'paths', message: error.message, fix: 'Write absolute paths under `paths`.' }
  }
}

function absentFinding({ path, code }: Roots['absent'][number]): Finding {
  return {
    severity: 'error',
    code: 'path-absent',
    message: `${displayPath(path)} ${code === 'EACCES' ? 'cannot be read by this user' : 'is not there or cannot be reached'} (${code}).`,
    fix: 'Create or mount it, run as root or a user who may read it, or take it out of `paths`.',
  }
}

function linkFinding({ path, real }: Roots['links'][number]): Finding {
  return {
    severity: 'warning',
    code: 'path-is-link',
    message: `${displayPath(path)} leads through a symbolic link; what is backed up is ${displayPath(real)}.`,
    fix: `Write ${displayPath(real)} under \`paths\` to say so.`,
  }
}

function pathFindings(path: string, skip: readonly string[]): Finding[] {
  const findings: Finding[] = []
  const shown = displayPath(path)
  if (reach(path, (reachable) => isKernelFileSystem(statfsSync(reachable).type))) {
    findings.push({
      severity: 'error',
      code: 'path-kernel',
      message: `${shown} shows the kernel's own state and holds no data to back up.`,
      fix: 'Take it out of `paths`.',
    })
  }
  for (const folder of skip.map(realPath)) {
    if (isWithin(path, folder)) {
      findings.push({
        severity: 'error',
        code: 'path-in-repository',
        message: `${shown} lies in ${displayPath(folder)}, which holds backups or Regain's own state.`,
        fix: 'Put the destination elsewhere, or take the path out of `paths`.',
      })
    } else if (isWithin(folder, path)) {
      findings.push({
        severity: 'warning',
        code: 'repository-in-path',
        message: `${displayPath(folder)} lies in ${shown} and is left out of its backup. Both are lost with the same disk.`,
        fix: 'Put the destination on another disk or machine.',
      })
    }
  }
  return findings
}

function excludeFindings(patterns: readonly string[], root: string): Finding[] {
  try {
    new Excludes(patterns, root)
  } catch (error) {
    if (!isRegainError(error, 'config-invalid')) throw error
    return [{ severity: 'error', code: 'exclude', message: error.message, fix: error.hint }]
  }
  return []
}

/** One look at the top folder's owner: whether files of others are below cannot be known without the whole walk. */
function rightsFindings(roots: Roots): Finding[] {
  const user = process.geteuid?.()
  if (user === 0) return []
  const others = wantedPaths(roots).filter((path) => reach(path, (reachable) => lstatSync(reachable)).uid !== user)
  if (others.length === 0) return []
  return [
    {
      severity: 'warning',
      code: 'not-root',
      message: `${others.map(displayPath).join(', ')} belongs to another user than the one who runs Regain. Files it may not read will be missing from points, and restored files will belong to it.`,
      fix: 'Run Regain as root, or as the owner of the files.',
    },
  ]
}

/** Looks until it finds the first file, or has seen enough folders to leave the question to the backup. */
function emptyFindings(plan: FilesCheck, roots: Roots, options: SourceOptions): Finding[] {
  return roots.wanted.flatMap((wanted): Finding[] => {
    if (mayHoldFiles(wanted, plan, roots, options)) return []
    return [
      {
        severity: 'warning',
        code: 'path-empty',
        message: `${displayPath(absolutePath(roots.root, wanted))} holds no files that would be backed up.`,
        fix: 'Mount or fill it, correct `exclude`, or take it out of `paths`.',
      },
    ]
  })
}

function mayHoldFiles(wanted: EntryPath, plan: FilesCheck, roots: Roots, options: SourceOptions): boolean {
  let isUnclear = false
  const walk = new Walk({
    root: roots.root,
    wanted: [wanted],
    excludes: new Excludes(plan.exclude, roots.root),
    skip: new Set(plan.skip.map(realPath)),
    crossFileSystems: plan.crossFileSystems,
    missed: () => {
      isUnclear = true
    },
    warn: () => undefined, // The backup itself says it.
  })
  for (let seen = 0; seen < LOOK_ENTRIES; seen++) {
    throwIfInterrupted(options.signal)
    const walked = walk.next()
    if (walked === null) return isUnclear
    if (walked.entry.type !== 'directory') return true
  }
  return true
}

async function commandFindings(plan: FilesCheck, options: SourceOptions): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const [name, command] of [
    ['before', plan.before],
    ['after', plan.after],
  ] as const) {
    const word = command === undefined ? null : firstWord(command)
    if (word === null) continue
    const failure = await runCommand(`command -v -- '${word}' >/dev/null`, {
      limitMs: LOOKUP_LIMIT_MS,
      signal: options.signal,
    })
    if (failure === null) continue
    findings.push({
      severity: 'error',
      code: 'command-absent',
      message: `The ${name} command begins with ${word}, which is not found.`,
      fix: `Install ${word}, or write its full path: commands are run by /bin/sh with the PATH that Regain was started with.`,
    })
  }
  if (plan.before !== undefined && plan.after === undefined) {
    findings.push({
      severity: 'warning',
      code: 'command-after',
      message: 'There is a before command but no after command: what it stops or freezes stays so.',
      fix: 'Add `after`, which is run whatever happens.',
    })
  }
  return findings
}

/** The program that a simple command starts; null where only the shell could tell. */
function firstWord(command: string): string | null {
  return /^\s*([\w./+-]+)(?=\s|$|[;&|<>])/.exec(command)?.[1] ?? null
}
