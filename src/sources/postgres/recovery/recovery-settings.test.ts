import assert from 'node:assert/strict'
import { test } from 'node:test'
import { settingLine, withoutSettings } from '../server/settings.ts'
import type { RecoveryPlan } from './plan.ts'
import { readRecoveryLog, toRfc3339 } from './recovery-report.ts'
import { afterRecovery, recoveryConfiguration } from './recovery-settings.ts'

const plan = (target: RecoveryPlan['target']): RecoveryPlan => ({
  point: 'p',
  timeline: 3,
  target,
  end: 1n,
  until: '',
  notes: [],
})

test('what an earlier restore left is replaced, what the operator set stays, and afterwards nothing steers', () => {
  const before = `work_mem = '64MB'\nrecovery_target_xid = '7'\nRestore_Command 'cp x'\n  primary_conninfo='host=old'\n# recovery_target kept as a remark\n`
  const during = recoveryConfiguration(before, plan({ kind: 'name', value: "it's" }), true)
  assert.match(during, /^work_mem = '64MB'$/m)
  assert.match(during, /^# recovery_target kept/m)
  assert.doesNotMatch(during, /host=old|cp x|'7'/)
  assert.match(during, /^recovery_target_timeline = '3'$/m)
  assert.match(during, /^recovery_target_name = 'it''s'$/m)
  assert.match(during, /^archive_mode = 'off'$/m)
  // The server takes an empty target that comes later for "no target".
  const targets = during.split('\n').filter((line) => /^recovery_target(_time|_xid|_lsn|_name)? =/.test(line))
  assert.equal(targets.length, 5)
  assert.ok(targets.at(-1)?.startsWith('recovery_target_name'))
  assert.equal(afterRecovery(during), `work_mem = '64MB'\n# recovery_target kept as a remark\narchive_mode = 'off'\n`)
})

test('a time is written as a starting server can read it', () => {
  const line = (value: string): string | undefined =>
    /^recovery_target_time = '(.+)'$/m.exec(recoveryConfiguration('', plan({ kind: 'time', value }), false))?.[1]
  assert.equal(line('2026-11-20T19:46:06Z'), '2026-11-20 19:46:06+00')
  assert.equal(line('2026-11-20T19:46:06.123456999Z'), '2026-11-20 19:46:06.123456+00')
})

test('settings are quoted and found as the server does', () => {
  assert.equal(settingLine('a', String.raw`it's \ here`), `${String.raw`a = 'it''s \\ here'`}\n`)
  assert.equal(withoutSettings('A=1\nab = 2\n a 3\n#a\n', ['a']), 'ab = 2\n#a\n')
})

test('a server’s log tells how far it got', () => {
  const log = `LOG:  redo done at 0/5000028 system usage: CPU
LOG:  last completed transaction was at log time 2026-11-20 20:01:06.5+01
LOG:  selected new timeline ID: 4
`
  assert.deepEqual(readRecoveryLog(log), {
    targetMissed: false,
    lastTransaction: '2026-11-20T19:01:06.500000Z',
    lastRecord: '0/5000028',
    timeline: 4,
  })
  assert.deepEqual(readRecoveryLog('FATAL:  recovery ended before configured recovery target was reached'), {
    targetMissed: true,
    lastTransaction: null,
    lastRecord: null,
    timeline: null,
  })
  assert.equal(toRfc3339('2026-11-20 00:30:00.123456+05:30'), '2026-11-19T19:00:00.123456Z')
})
