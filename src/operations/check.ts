import type { DestinationConfiguration, ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { isRegainError, RegainError, throwIfInterrupted } from '../errors.ts'
import type { Finding } from '../model.ts'
import { judgeKeptLog } from '../policy/kept-log.ts'
import type { LogStore } from '../sources/contract.ts'
import type { Application, Reporting } from './context.ts'
import { daemonFindings } from './daemon-findings.ts'
import { openServiceKey, withRepository } from './repositories.ts'
import { openSource } from './sources.ts'
import { destinationsOf, selectTargets, type Target } from './targets.ts'
import { unfinishedRekey } from './unfinished-rekey.ts'

const LOW_SPACE_BYTES = 5e9
const NO_SPACE_BYTES = 1e9

/** A finding with what it is about. */
export interface CheckFinding extends Finding {
  service: string
  source?: string
  destination?: string
}

/** Finds out what would keep backups and restores from working. Changes nothing. Problems are findings, not rejections. */
export async function check(
  application: Application,
  request: { target?: string },
  reporting: Reporting,
  onFinding: (finding: CheckFinding) => void,
): Promise<CheckFinding[]> {
  const findings: CheckFinding[] = []
  const report = (finding: CheckFinding) => {
    findings.push(finding)
    onFinding(finding)
  }
  for (const target of selectTargets(application.config, request.target)) {
    const about = { service: target.service.name }
    for (const note of application.config.warnings) {
      if (note.service !== about.service) continue
      const severity = note.isRefused === true ? 'error' : 'warning'
      report({ ...about, severity, code: 'configuration', message: `${note.place}: ${note.message}` })
    }
    await checkTarget(application, target, reporting, report)
  }
  return findings
}

async function checkTarget(
  application: Application,
  target: Target,
  reporting: Reporting,
  report: (finding: CheckFinding) => void,
): Promise<void> {
  const { service } = target
  const about = { service: service.name }
  try {
    const key = await openServiceKey(application, service)
    report({ ...about, severity: 'ok', code: 'key', message: `${key.description} can be used` })
    const configured = application.config.keys[service.key]!
    if (configured.type === 'file' && (await application.drivers.isKeyExposed(configured))) {
      report({
        ...about,
        severity: 'warning',
        code: 'key-exposed',
        message: `other users of this machine may read or change ${key.description}, and with it every backup`,
        fix: `Let its owner alone have it: chmod 600 ${configured.path}`,
      })
    }
  } catch (error) {
    report({ ...about, ...fromError(error, 'key') })
    return
  }
  for (const destination of destinationsOf(application.config, service)) {
    throwIfInterrupted(reporting.signal)
    await checkDestination(application, target, destination, report)
  }
  for (const finding of daemonFindings(application, service)) report({ ...about, ...finding })
  for (const source of target.sources) {
    throwIfInterrupted(reporting.signal)
    const destination = application.config.destinations[service.destinations[0]!]!
    try {
      const driver = await openSource(application, { service, source, destination, log: NO_LOG })
      for (const finding of await driver.check(reporting)) report({ ...about, source: source.name, ...finding })
      for (const finding of await keptLog(application, service, source, reporting.signal))
        report({ ...about, source: source.name, ...finding })
    } catch (error) {
      report({ ...about, source: source.name, ...fromError(error, 'source') })
    }
  }
}

/** What the source keeps for its log now, and what regain serve makes of that. */
async function keptLog(
  { drivers, ambient, config, launcher }: Application,
  service: ServiceConfiguration,
  source: SourceConfiguration,
  signal: AbortSignal,
): Promise<Finding[]> {
  if (source.type !== 'postgres' || source.unresolved !== undefined) return []
  try {
    const guard = await drivers.createLogGuard({ service, source, ambient, config, launcher })
    const kept = (await guard?.look(signal)) ?? []
    return kept.map((log): Finding => {
      const { state, reason } = judgeKeptLog(log, source.slotLimit)
      const message = `for the log that is not stored yet, ${log.server} keeps what it may need: ${reason}`
      if (state === 'fine') return { severity: 'ok', code: 'kept-log', message }
      return {
        severity: 'warning',
        code: 'kept-log',
        message,
        fix: 'See why it is not stored: is regain serve running, can it write to every destination?',
      }
    })
  } catch (error) {
    // A server that can't be reached has been told as that.
    if (isRegainError(error, 'source-unavailable')) return []
    return [fromError(error, 'kept-log')]
  }
}

async function checkDestination(
  application: Application,
  { service }: Target,
  destination: DestinationConfiguration,
  report: (finding: CheckFinding) => void,
): Promise<void> {
  const about = { service: service.name, destination: destination.name }
  try {
    const { points, rekey } = await withRepository(application, service, destination, async (repository) => ({
      points: await repository.points(),
      rekey: unfinishedRekey(repository, service.name),
    }))
    if (rekey !== null) report({ ...about, severity: 'warning', code: 'rekey', ...rekey })
    report({
      ...about,
      severity: 'ok',
      code: 'repository',
      message: `the repository opens and holds ${points.length === 1 ? '1 point' : `${points.length} points`}`,
    })
  } catch (error) {
    report({ ...about, ...fromError(error, 'repository') })
    return
  }
  const { freeBytes, isWritable } = await application.drivers.inspectDestination(destination, service.name)
  if (isWritable === false) {
    report({
      ...about,
      severity: 'error',
      code: 'destination-denied',
      message: 'this user may not write to the repository, so backups will fail',
      fix: 'Run as the user who made it, or give this one the right.',
    })
  }
  if (freeBytes === null) return
  const gigabytes = (freeBytes / 1e9).toFixed(1)
  if (freeBytes >= LOW_SPACE_BYTES) {
    report({ ...about, severity: 'ok', code: 'free-space', message: `${gigabytes} GB are free` })
    return
  }
  report({
    ...about,
    severity: freeBytes < NO_SPACE_BYTES ? 'error' : 'warning',
    code: 'free-space',
    message: `only ${gigabytes} GB are free at the destination`,
    fix: 'Free space, or name a larger destination. Points already committed are not affected by a full disk.',
  })
}

function fromError(error: unknown, code: string): Finding {
  if (!(error instanceof RegainError) || error.code === 'interrupted') throw error
  return { severity: 'error', code: `${code}-${error.code}`, message: error.message, fix: error.hint }
}

/** A preflight reads no log; whatever asks for it here is a mistake of a driver. */
const NO_LOG: LogStore = {
  putSegment: refuse,
  putTail: refuse,
  dropTails: refuse,
  putHistory: refuse,
  list: async () => ({ segments: [], tails: [], histories: [] }),
  holds: async () => false,
  read: async () => null,
  readUntil: async (pieces) => pieces.map(() => null),
  readHistory: async () => null,
}

function refuse(): Promise<never> {
  return Promise.reject(new Error('A check must not write to the log.'))
}
