import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import type pg from 'pg'
import type { Ambient } from '../model.ts'
import { type PostgresServer, startServer } from '../sources/postgres/server/server.ts'
import { dropOrders, type OpenShop, openForCustomers, openShop } from './opening.ts'
import { type Baseline, type Proof, proveEnd, proveMoment, proveTables, recordBaseline, withClient } from './proofs.ts'
import { makeStage, type Stage } from './stage.ts'
import { waitFor } from './wait.ts'
import type { Writer } from './writer.ts'

const signal = new AbortController().signal
const ambient: Ambient = { now: Date.now, randomBytes, log: () => {} }
const MEGABYTES = 20

let stage: Stage
let shop: OpenShop
let writer: Writer
let baseline: Baseline
let droppedUs: bigint
let crashedAt: number
/** The same data directory after the crash: PostgreSQL's own recovery, which loses nothing. */
let recovered: PostgresServer

before(async () => {
  stage = await makeStage(undefined, MEGABYTES, process.getuid?.() === 0, [])
  shop = await openShop(stage, MEGABYTES, ambient, signal)
  writer = await openForCustomers(shop, stage, ambient)
  await waitFor('orders', 30_000, signal, () => writer.commits.length > 50 || null)
  baseline = await recordBaseline(shop.urlAt(shop.server.port), shop.size)
  droppedUs = (await dropOrders(shop)).droppedUs
  await waitFor('refused orders', 30_000, signal, () => writer.refusedOrders() > 20 || null)
  crashedAt = Date.now()
  await shop.server.crash()
  await writer.ended
  recovered = await startServer({ binaries: shop.server.binaries, directory: shop.data, signal })
  stage.later('stopping', () => recovered.stop())
})

after(async () => assert.deepEqual(await stage.strike(), []))

/** What the proofs say of the recovered shop after `damage`, which is undone. */
async function provenAfter(damage: string, prove: (client: pg.Client) => Promise<Proof[]>): Promise<Proof[]> {
  return withClient(shop.urlAt(recovered.port), async (client) => {
    await client.query('begin')
    if (damage !== '') await client.query(damage)
    const proofs = await prove(client)
    await client.query('rollback')
    return proofs
  })
}

function failed(proofs: readonly Proof[]): string[] {
  return proofs.filter(({ passed }) => !passed).map(({ name }) => name)
}

const tables = (client: pg.Client) => proveTables(client, shop.size, baseline, ['orders'])
const end = async (client: pg.Client) =>
  (await proveEnd(client, writer.commits, { at: crashedAt, durableUntil: crashedAt - 100, objectiveMs: 5000 })).proofs

test('the shop has about the size that was asked for', () => {
  assert.ok(shop.databaseBytes > MEGABYTES * 0.8e6 && shop.databaseBytes < MEGABYTES * 2e6, String(shop.databaseBytes))
})

test('the writer knows every commit with its number and its time', () => {
  const { commits } = writer
  assert.deepEqual(
    commits.map(({ seq }) => seq),
    commits.map((_, i) => i + 1),
  )
  const first = commits.findIndex(({ kind }) => kind === 'payment')
  assert.ok(first > 50)
  assert.ok(commits.slice(first).every(({ kind }) => kind === 'payment'))
  for (const { committedAtUs, acknowledgedAt, kind } of commits.slice(0, -1)) {
    assert.ok(committedAtUs !== null)
    assert.ok(Number(committedAtUs / 1000n) <= acknowledgedAt + 1, 'committed before it was acknowledged')
    assert.equal(kind === 'order', committedAtUs < droppedUs)
  }
})

test('PostgreSQL itself lost nothing in the crash, and every proof says so', async () => {
  assert.deepEqual(failed(await provenAfter('', tables)), [])
  assert.deepEqual(failed(await provenAfter('', end)), [])
})

const WRONGS: [what: string, damage: string, prove: (client: pg.Client) => Promise<Proof[]>, expected: string[]][] = [
  ['a changed row', "update customers set name = 'Mallory' where id = 7", tables, ['table customers']],
  ['a missing row', 'delete from order_lines where order_id = 3', tables, ['table order_lines']],
  [
    'a changed byte',
    'update attachments set content = set_byte(content, 9, 1) where id = 3',
    tables,
    ['table attachments'],
  ],
  ['a table that should be gone', 'create table orders ()', tables, ['table orders']],
  [
    'an old commit lost',
    'delete from payments where seq = 5',
    end,
    ['every commit that was called durable', 'no hole before the end'],
  ],
  ['the end lost', 'delete from payments where seq > 10', end, ['every commit that was called durable']],
  [
    'a commit that was never made',
    "insert into payments values (900001, null, 1.01, md5('payment 900001')), (900002, null, 2.02, md5('payment 900002'))",
    end,
    ['nothing that was never written'],
  ],
  ['wrong content', "update payments set reference = 'x' where seq = 5", end, ['content of every payment']],
]

for (const [what, damage, prove, expected] of WRONGS) {
  test(`a wrong recovery is found: ${what}`, async () => {
    const names = failed(await provenAfter(damage, prove))
    for (const name of expected) assert.ok(names.includes(name), `${name} not among: ${names.join(', ')}`)
  })
}

test('a moment: orders, lines and payments together, up to the microsecond', async () => {
  // A table of orders as it would be at the moment of order 20, built from what every order's number says.
  const target = writer.commits[19]?.committedAtUs
  assert.ok(target)
  const asOf20 = `delete from payments where seq > 20; delete from order_lines where order_id > ${shop.size.orders + 20};
    create table orders as select order_id as id, amount as total from payments where order_id is not null`
  const moment = (us: bigint) => (client: pg.Client) => proveMoment(client, shop.size, writer.commits, us)
  assert.deepEqual(failed(await provenAfter(asOf20, moment(target))), [])
  assert.deepEqual(failed(await provenAfter(asOf20, moment(target - 1n))), ['nothing after the moment'])
  const torn = `${asOf20}; delete from order_lines where order_id = ${shop.size.orders + 7} and line = 1`
  assert.deepEqual(failed(await provenAfter(torn, moment(target))), ['no half transaction'])
  const lost = `${asOf20}; delete from payments where seq = 7`
  assert.deepEqual(failed(await provenAfter(lost, moment(target))), [
    'every commit up to the moment',
    'no half transaction',
  ])
})
