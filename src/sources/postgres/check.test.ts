import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { startPostgres, startStandby, type TestPostgres } from '../../../test/support/postgres.ts'
import type { Finding } from '../../model.ts'
import { checkPostgres } from './check.ts'
import { parseServerUrl } from './protocol/connection-url.ts'

async function findings(t: TestContext, url: string): Promise<Map<string, Finding>> {
  return new Map((await findingsOf(t, url)).map((finding) => [finding.code, finding]))
}

async function findingsOf(t: TestContext, url: string): Promise<Finding[]> {
  const found = await checkPostgres({
    url: parseServerUrl(url),
    slot: 'regain_shop_db',
    slotsInUse: ['regain_shop_db', 'regain_other'],
    continuous: true,
    signal: t.signal,
  })
  for (const { severity, code, fix } of found) assert.ok(severity === 'ok' || fix, code)
  return found
}

const asRole = (postgres: TestPostgres, role: string): string => postgres.url().replace('postgres@', `${role}@`)

test('a server that is fit says so, with what could be better', async (t) => {
  const postgres = await startPostgres(t, { major: 18, dataChecksums: true })
  const found = await findings(t, postgres.url())
  assert.deepEqual(
    [...found.values()].filter(({ severity }) => severity === 'error'),
    [],
  )
  assert.deepEqual(
    [...found.values()].filter(({ severity }) => severity === 'warning').map(({ code }) => code),
    ['slot-limit', 'summarize-wal'],
  )
  assert.match(found.get('slot-limit')?.fix ?? '', /max_slot_wal_keep_size/)
  assert.match(found.get('summarize-wal')?.fix ?? '', /summarize_wal = on/)
})

test('slots of sources that are gone are named, with what they keep', async (t) => {
  const postgres = await startPostgres(t, { major: 16, dataChecksums: true })
  for (const name of ['regain_shop_db', 'regain_other', 'regain_gone', 'theirs'])
    await postgres.query(`select pg_create_physical_replication_slot('${name}', true)`)
  const found = (await findingsOf(t, postgres.url())).filter(({ code }) => code === 'slot-left-over')
  assert.deepEqual(
    found.map(({ fix }) => fix?.replace(/^.*: /, '')),
    ["SELECT pg_drop_replication_slot('regain_gone');"],
  )
})

test('a standby that would not let the follower in after a failover is found before there is one', async (t) => {
  const primary = await startPostgres(t, { major: 16 })
  const standby = await startStandby(t, primary)
  await writeFile(join(standby.directory, 'pg_hba.conf'), 'host all all 127.0.0.1/32 trust\n')
  await standby.query('select pg_reload_conf()')
  await standby.start()
  const hosts = [primary, standby].map((server) => `127.0.0.1:${server.server().port}`)
  const found = await findingsOf(t, `postgres://postgres@${hosts.join(',')},127.0.0.1:1/?target_session_attrs=primary`)
  const said = found.filter(({ code }) => code === 'host')
  assert.deepEqual(
    said.map(({ severity }) => severity),
    ['ok', 'warning', 'warning'],
  )
  assert.match(said[1]?.message ?? '', /is a standby, and its log could not be followed now: .*pg_hba/)
  assert.match(said[1]?.fix ?? '', /host replication postgres/)
  assert.match(said[2]?.message ?? '', /could not take over now: nothing answers there/)
})

test('a role of its own with only REPLICATION can do everything that is needed', async (t) => {
  const postgres = await startPostgres(t, {
    major: 14,
    dataChecksums: false,
    settings: { max_slot_wal_keep_size: '1GB', wal_sender_timeout: '1s' },
  })
  await postgres.query('create role backup login replication')
  const found = await findings(t, asRole(postgres, 'backup'))
  assert.deepEqual(
    [...found.values()].filter(({ severity }) => severity === 'error'),
    [],
  )
  assert.deepEqual(
    [...found.values()]
      .filter(({ severity }) => severity === 'warning')
      .map(({ code }) => code)
      .sort(),
    ['data-checksums', 'wal-sender-timeout'],
  )
})

test('each thing that would keep a backup from working is found with its mend', async (t) => {
  const postgres = await startPostgres(t, {
    major: 15,
    settings: { wal_level: 'minimal', max_wal_senders: '0', max_replication_slots: '0' },
  })
  const found = await findings(t, postgres.url())
  for (const code of ['wal-level', 'wal-senders', 'slots', 'replication-rights'])
    assert.equal(found.get(code)?.severity, 'error', code)
  assert.match(found.get('wal-level')?.fix ?? '', /wal_level = replica/)
  assert.match(found.get('slots')?.fix ?? '', /max_replication_slots/)
  assert.match(found.get('replication-rights')?.fix ?? '', /raise max_connections or max_wal_senders/)

  await postgres.start({ wal_level: 'replica', max_wal_senders: '5', max_replication_slots: '5' })
  const elsewhere = postgres.url().replace(/\/postgres(?=$|\?)/, '/absent')
  assert.match((await findings(t, elsewhere)).get('connection')?.fix ?? '', /name of the database in the URL/)

  await postgres.query('create role plain login')
  const right = (await findings(t, asRole(postgres, 'plain'))).get('replication-rights')
  assert.deepEqual([right?.severity, right?.fix], ['error', 'ALTER ROLE "plain" REPLICATION;'])

  await writeFile(join(postgres.directory, 'pg_hba.conf'), 'host all all 127.0.0.1/32 trust\n')
  await postgres.query('select pg_reload_conf()')
  await postgres.start({ wal_level: 'replica', max_wal_senders: '5', max_replication_slots: '5' })
  const door = (await findings(t, postgres.url())).get('replication-rights')
  assert.equal(door?.severity, 'error')
  assert.match(door?.fix ?? '', /pg_hba\.conf: host replication postgres/)

  await postgres.stop()
  assert.deepEqual(
    [...(await findings(t, postgres.url())).values()].map(({ severity, code }) => [severity, code]),
    [['error', 'connection']],
  )
})
