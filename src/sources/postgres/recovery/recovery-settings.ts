import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ifAbsent } from '../../../filesystem/system-error.ts'
import { settingLine, withoutSettings } from '../server/settings.ts'
import type { RecoveryPlan } from './plan.ts'
import { RECOVERY_FOLDER } from './recovery-script.ts'

/** ALTER SYSTEM's file: it is read last, so it wins. */
export const AUTO_CONF = 'postgresql.auto.conf'

/** Everything that steers a recovery: what an earlier restore or a standby left of these must not count. */
const STEERING = [
  'restore_command',
  'recovery_end_command',
  'archive_cleanup_command',
  'recovery_target',
  'recovery_target_action',
  'recovery_target_inclusive',
  'recovery_target_lsn',
  'recovery_target_name',
  'recovery_target_time',
  'recovery_target_timeline',
  'recovery_target_xid',
  'primary_conninfo',
  'primary_slot_name',
  'hot_standby',
] as const

const TARGETS = [
  'recovery_target',
  'recovery_target_time',
  'recovery_target_xid',
  'recovery_target_lsn',
  'recovery_target_name',
]

/**
 * The text of postgresql.auto.conf that makes a recovery go as planned. The server promotes itself when it is there.
 * `archives`: the source archived its WAL; a copy must not do so at the same place.
 */
export function recoveryConfiguration(current: string, plan: RecoveryPlan, archives: boolean): string {
  const target = targetSetting(plan)
  const settings: [string, string][] = [
    ['restore_command', `sh ${RECOVERY_FOLDER}/fetch "%f" "%p"`],
    ['recovery_end_command', `rm -rf ${RECOVERY_FOLDER}/spool`],
    ['recovery_target_timeline', String(plan.timeline)],
    ['recovery_target_action', 'promote'],
    // Nobody may connect before the moment is reached; and without readers the server needs no settings like the source's.
    ['hot_standby', 'off'],
    // Empty ones first: an empty target that is read later would cancel the one before it (versions 13 to 18).
    ...TARGETS.filter((name) => name !== target?.[0]).map((name): [string, string] => [name, '']),
    ...(target ? [target] : []),
    ...('exclusive' in plan.target ? [['recovery_target_inclusive', 'off'] as [string, string]] : []),
    ...(archives ? [['archive_mode', 'off'] as [string, string]] : []),
  ]
  const kept = withoutSettings(current, [...STEERING, ...(archives ? ['archive_mode'] : [])]).replace(/\n*$/, '\n')
  return kept + settings.map(([name, value]) => settingLine(name, value)).join('')
}

/** The same file when recovery is over: nothing steers it any more, the archive stays off. */
export function afterRecovery(current: string): string {
  return withoutSettings(current, STEERING).replace(/\n*$/, '\n')
}

function targetSetting(plan: RecoveryPlan): [string, string] | null {
  const { target } = plan
  switch (target.kind) {
    case 'end':
      return null
    case 'immediate':
      return ['recovery_target', 'immediate']
    case 'time':
      return ['recovery_target_time', serverTime(target.value)]
    case 'lsn':
      return ['recovery_target_lsn', target.value]
    case 'xid':
      return ['recovery_target_xid', target.value]
    case 'name':
      return ['recovery_target_name', target.value]
  }
}

/**
 * '2026-11-20T19:46:06.375513Z' as a server can read it while it starts: it does not know 'Z' yet, nor any other zone by
 * name, only offsets. Microseconds are its grain; what is finer is cut, so that nothing later than asked for is let in.
 */
function serverTime(time: string): string {
  const [date, clock] = time.replace(/Z$/, '').split('T')
  return `${date} ${clock?.replace(/(\.\d{6})\d+$/, '$1')}+00`
}

/**
 * Configuration files for a data directory that came without: distributions keep them elsewhere, where a physical
 * backup does not reach. Access as restrictive as can be used: this machine only, with passwords or as the same user.
 */
export async function missingConfiguration(
  directory: string,
  settings: Record<string, string>,
): Promise<{ name: string; text: string }[]> {
  const files: { name: string; text: string }[] = []
  const isMissing = async (name: string): Promise<boolean> =>
    (await readFile(join(directory, name)).catch(ifAbsent(null))) === null
  if (await isMissing('postgresql.conf')) {
    const lines = Object.entries(settings)
      .filter(([, value]) => value !== '')
      .map(([name, value]) => settingLine(name, value))
    files.push({
      name: 'postgresql.conf',
      text: `# The original stood outside of the data directory and is not part of the backup. Written by Regain.\n${lines.join('')}`,
    })
  }
  if (await isMissing('pg_hba.conf')) {
    const lines = [
      'local all all peer',
      'host all all 127.0.0.1/32 scram-sha-256',
      'host all all ::1/128 scram-sha-256',
    ]
    files.push({
      name: 'pg_hba.conf',
      text: `# The original stood outside of the data directory and is not part of the backup. Written by Regain.\n${lines.join('\n')}\n`,
    })
  }
  if (await isMissing('pg_ident.conf')) files.push({ name: 'pg_ident.conf', text: '' })
  return files
}
