import assert from 'node:assert/strict'
import { cp, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { RegainError } from '../../src/errors.ts'
import type { Point } from '../../src/model.ts'
import { makeTablespace, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { type Protection, protect } from '../support/postgres-protection.ts'
import { chooseSeed, seededNumbers } from '../support/repository.ts'

/** Only changed blocks come from the server; what is stored is a whole point every time (PostgreSQL 17 and later). */

const SETTINGS = { summarize_wal: 'on', autovacuum: 'off' }

/** Every table of the database, each row of it, as one text: what must come back. Reads every page, so checksums are checked. */
async function fingerprint(postgres: TestPostgres): Promise<string> {
  const tables = await postgres.query<{ name: string }>(
    `select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname = 'public' order by 1`,
  )
  const lines: string[] = []
  for (const { name } of tables) {
    const [row] = await postgres.query<{ n: string; hash: string }>(
      `select count(*) as n, md5(coalesce(string_agg(t::text, e'\n' order by t::text), '')) as hash from ${name} t`,
    )
    lines.push(`${name} ${row?.n} ${row?.hash}`)
  }
  return lines.join('\n')
}

async function fill(postgres: TestPostgres): Promise<void> {
  await postgres.query(
    `create table items as select n as id, md5(n::text) as text, repeat(md5((n * 7)::text), 10) as more
     from generate_series(1, 60000) n`,
  )
  await postgres.query('create unique index on items (id)')
  await postgres.query(
    'create table shrinking as select n, repeat(md5(n::text), 20) as text from generate_series(1, 20000) n',
  )
  await postgres.query('create table small as select n from generate_series(1, 10) n')
}

/** What makes relations change their blocks, grow, shrink, vanish and come back under the same or another file. */
function changes(below: (limit: number) => number, round: number): string[] {
  const from = 1 + below(50_000)
  const all = [
    `update items set text = md5(text) where id between ${from} and ${from + 200}`,
    `update items set more = more || 'x' where id % 997 = ${below(997)}`,
    `insert into items select (select max(id) from items) + n, 'new', repeat('y', ${below(300)}) from generate_series(1, ${1 + below(3000)}) n`,
    `delete from shrinking where n > ${15_000 - round * 3000}; vacuum shrinking`,
    'truncate small; insert into small values (1), (2)',
    'drop table if exists comes_and_goes; create table comes_and_goes as select generate_series(1, 5000) n',
    'vacuum full items',
    'create index on items (text)',
    `insert into shrinking select n, 'again' from generate_series(1, ${below(20_000)}) n`,
    `drop table if exists fleeting_${round}; create unlogged table fleeting_${round} as select 1 as n`,
    'vacuum (freeze) items',
  ]
  return Array.from({ length: 4 }, () => all[below(all.length)] as string)
}

async function apply(postgres: TestPostgres, statements: string[]): Promise<void> {
  for (const statement of statements) for (const sql of statement.split('; ')) await postgres.query(sql)
}

async function assertPoint(
  protection: Protection,
  postgres: TestPostgres,
  point: Point,
  expected: string,
): Promise<void> {
  const { postgres: copy } = await protection.recover(postgres, { kind: 'point', id: point.id })
  const unlogged = /^public\.fleeting_.*\n?/gm
  assert.equal((await fingerprint(copy)).replace(unlogged, ''), expected.replace(unlogged, ''))
}

for (const major of [17, 18])
  test(`version ${major}: every point of a chain of increments restores as exactly as the first`, async (t) => {
    const seed = chooseSeed()
    t.diagnostic(`seed ${seed}`)
    const below = seededNumbers(`increments ${major} ${seed}`)
    const postgres = await startPostgres(t, { major, dataChecksums: true, settings: SETTINGS })
    const protection = await protect(t)
    await makeTablespace(t, postgres)
    await fill(postgres)
    await postgres.query(
      'create table placed tablespace fast as select n, md5(n::text) from generate_series(1, 30000) n',
    )
    const taken: { point: Point; expected: string }[] = []
    const take = async () => {
      const expected = await fingerprint(postgres)
      taken.push({ point: await protection.takePoint(postgres, 'incremental'), expected })
    }
    await take()
    assert.equal(taken[0]?.point.kind, 'full')
    for (let round = 0; round < 4; round++) {
      const statements = changes(below, round)
      await apply(postgres, [...statements, `update placed set md5 = 'changed' where n = ${below(30_000)}`])
      t.diagnostic(statements.join(' | '))
      await take()
      assert.equal(taken.at(-1)?.point.kind, 'incremental', protection.warnings.join('\n'))
    }
    const read = taken.map(({ point }) => point.bytes.read)
    assert.ok(Math.min(...read.slice(1)) < (read[0] as number) / 2, read.join(' '))
    for (const at of [1, 4]) {
      const { point, expected } = taken[at] as (typeof taken)[number]
      await assertPoint(protection, postgres, point, expected)
    }
    const verified = await protection.repository.verify({ readData: true, signal: t.signal, progress: () => undefined })
    assert.deepEqual(verified.problems, [])
  })

test('a small change in a large cluster costs little', async (t) => {
  const postgres = await startPostgres(t, { major: 18, settings: SETTINGS })
  const protection = await protect(t)
  await fill(postgres)
  const first = await protection.takePoint(postgres)
  await postgres.query('update items set text = $1 where id = 777', ['one'])
  const second = await protection.takePoint(postgres, 'incremental')
  assert.equal(second.kind, 'incremental')
  // What is not of relations, and each file's free space map, comes whole.
  assert.ok(second.bytes.read < first.bytes.read / 8, `${second.bytes.read} of ${first.bytes.read}`)
  assert.ok(Math.abs(second.bytes.source - first.bytes.source) < first.bytes.source / 10)
})

test('what keeps a server from telling what changed is said, and the whole is read', async (t) => {
  const postgres = await startPostgres(t, { major: 17, settings: SETTINGS })
  const protection = await protect(t)
  await fill(postgres)
  await protection.takePoint(postgres)
  await postgres.query('update items set text = md5(text) where id < 100')
  await postgres.query('checkpoint')
  await removeSummaries(postgres)
  const expired = await protection.takePoint(postgres, 'incremental')
  assert.equal(expired.kind, 'full')
  assert.match(protection.warnings.join('\n'), /the server refused to send only what changed: .*summaries/)
  await postgres.query('update items set text = md5(text) where id < 100')
  // As a follower notes it of a server that was set back to a copy of its former self.
  const [row] = await postgres.query<{ name: string }>('select pg_walfile_name(pg_current_wal_lsn()) as name')
  await protection.repository.log('db').putHistory(`${row!.name}.conflict`, Buffer.from('{}\n'))
  await postgres.query('select pg_switch_wal()')
  const apart = await protection.takePoint(postgres, 'incremental')
  assert.equal(apart.kind, 'full')
  assert.match(protection.warnings.join('\n'), /has sent other log than before/)
  const next = await protection.takePoint(postgres, 'incremental')
  assert.equal(next.kind, 'incremental', protection.warnings.join('\n'))
  await postgres.query('alter system set summarize_wal = off')
  await postgres.query('select pg_reload_conf()')
  const off = await protection.takePoint(postgres, 'incremental')
  assert.equal(off.kind, 'full')
  assert.match(protection.warnings.join('\n'), /summarize_wal is off/)
  await assertPoint(protection, postgres, off, await fingerprint(postgres))
})

test('of a server whose disk was set back, and which has grown beyond its old end since, the whole is read', async (t) => {
  const postgres = await startPostgres(t, { major: 17, settings: SETTINGS, walSegmentMegabytes: 1 })
  const protection = await protect(t)
  const count = 'select text, count(*) from changed group by 1 order by 1'
  await postgres.query(`create table changed as select repeat('x', 50) as text from generate_series(1, 20000)`)
  await postgres.query('create table other as table changed')
  const before = protection.follow(postgres)
  await before.caughtUp()
  await before.stop()
  await postgres.stop()
  const copy = `${postgres.directory}.copy`
  await cp(postgres.directory, copy, { recursive: true, preserveTimestamps: true })
  await postgres.start()

  const first = protection.follow(postgres)
  await postgres.query(`update changed set text = 'forgotten'`)
  await protection.takePoint(postgres)
  await postgres.query('select pg_switch_wal()')
  await first.caughtUp()
  await first.stop()
  await postgres.stop()

  await rm(postgres.directory, { recursive: true })
  await rename(copy, postgres.directory)
  await postgres.giveToServer()
  await postgres.start()
  for (let n = 0; n < 8; n++) await postgres.query(`update other set text = $1`, [`another history ${n}`])
  const second = protection.follow(postgres)
  await second.caughtUp()
  const point = await protection.takePoint(postgres, 'incremental')
  await second.stop()
  assert.match(protection.warnings.join('\n'), /The log has a break: the repository holds other bytes/)
  assert.equal(point.kind, 'full')
  const { postgres: restored } = await protection.recover(postgres, { kind: 'point', id: point.id })
  assert.deepEqual(await restored.query(count), await postgres.query(count))
})

test('a server that was started again proves by its log that nothing was set back, or is read whole', async (t) => {
  const postgres = await startPostgres(t, { major: 18, settings: SETTINGS, walSegmentMegabytes: 1 })
  const protection = await protect(t)
  await postgres.query(`create table changed as select repeat('x', 50) as text from generate_series(1, 20000)`)
  await postgres.query('create table other as table changed')
  await postgres.stop()
  const copy = `${postgres.directory}.copy`
  await cp(postgres.directory, copy, { recursive: true, preserveTimestamps: true })
  await postgres.start()
  await protection.takePoint(postgres)
  await postgres.crash()
  await postgres.start()
  await postgres.query(`update changed set text = 'forgotten'`)
  const proven = await protection.takePoint(postgres, 'incremental')
  assert.equal(proven.kind, 'incremental', protection.warnings.join('\n'))
  await postgres.stop()

  // Set back beneath Regain, without a follower to notice it, and grown beyond its old end.
  await rm(postgres.directory, { recursive: true })
  await rename(copy, postgres.directory)
  await postgres.giveToServer()
  await postgres.start()
  for (let n = 0; n < 8; n++) await postgres.query('update other set text = $1', [`another history ${n}`])
  const point = await protection.takePoint(postgres, 'incremental')
  assert.equal(point.kind, 'full')
  assert.match(protection.warnings.join('\n'), /set back/)
  const { postgres: restored } = await protection.recover(postgres, { kind: 'point', id: point.id })
  const count = 'select text, count(*) from changed group by 1 order by 1'
  assert.deepEqual(await restored.query(count), await postgres.query(count))
})

/** As if they had expired: the server keeps them for wal_summary_keep_time. */
async function removeSummaries(postgres: TestPostgres): Promise<void> {
  const folder = join(postgres.directory, 'pg_wal/summaries')
  for (const name of await readdir(folder)) await rm(join(folder, name))
}

test('a file whose chunks the repository has lost is sent whole, which heals it', async (t) => {
  const postgres = await startPostgres(t, { major: 18, settings: SETTINGS })
  const protection = await protect(t)
  await fill(postgres)
  const first = await protection.takePoint(postgres)
  await loseAPack(protection, first)
  await postgres.query('update items set text = $1 where id = 777', ['one'])
  const healed = await protection.takePoint(postgres, 'incremental')
  assert.equal(healed.kind, 'incremental')
  await assertPoint(protection, postgres, healed, await fingerprint(postgres))

  // A flipped bit nobody sees until all is read: a backup that builds on it fails and says what helps. Set aside, it is mended.
  const { repository } = protection
  const run = { signal: t.signal, progress: () => undefined }
  await flipEachPackOfPages(protection, healed)
  await postgres.query('update items set text = $1 where id % 100 = 0', ['two'])
  await assert.rejects(protection.takePoint(postgres, 'incremental'), ({ code, hint }: RegainError) => {
    assert.equal(code, 'repository-damaged')
    return hint.includes('regain repository repair shop --read-data')
  })
  await repository.repair(await repository.planRepair({ ...run, readData: true }), run)
  const again = await protection.takePoint(postgres, 'incremental')
  assert.equal(again.kind, 'incremental')
  await assertPoint(protection, postgres, again, await fingerprint(postgres))
  const { problems } = await repository.verify({ ...run, readData: true })
  assert.ok(!problems.some(({ hurts }) => hurts.some(({ point }) => point === again.id)), JSON.stringify(problems))
})

/** The first half of each: the manifest and the listing come last. */
async function flipEachPackOfPages({ storage, repository }: Protection, point: Point): Promise<void> {
  const names: string[] = []
  for await (const { name, size } of storage.list('packs/')) if (size > 1_000_000) names.push(name)
  for (const name of names) {
    const bytes = await storage.get(name)
    const hurt = Buffer.from(bytes)
    for (let at = 5000; at < hurt.length / 2; at += 262_160) hurt[at]! ^= 1
    await storage.put(name, hurt)
    const opened = await repository.openPoint(point.id, { signal: new AbortController().signal })
    const isKept = await opened.readFile('backup_manifest').then(
      () => true,
      () => false,
    )
    await opened.close()
    if (!isKept) await storage.put(name, bytes)
  }
}

/** One that holds pages. Without the manifest there would be no increment to begin with. */
async function loseAPack({ storage, repository }: Protection, point: Point): Promise<void> {
  const packs: { name: string; size: number }[] = []
  for await (const object of storage.list('packs/')) packs.push(object)
  for (const { name } of packs.sort((a, b) => b.size - a.size)) {
    const bytes = await storage.get(name)
    await storage.delete(name)
    const opened = await repository.openPoint(point.id, { signal: new AbortController().signal })
    const isKept = await opened.readFile('backup_manifest').then(
      () => true,
      () => false,
    )
    await opened.close()
    if (isKept) return
    await storage.put(name, bytes)
  }
  throw new Error('every pack holds something of the manifest')
}
