import pg from 'pg'
import { type Acknowledged, isoMicroseconds, judgeEnd, judgeMoment } from './acknowledged.ts'
import { type ShopSize, shopTables, tornTransactions, WRONG_PAYMENTS } from './shop.ts'

/** One thing that had to be true, and whether it was. */
export interface Proof {
  name: string
  passed: boolean
  /** What was compared, with the numbers; one clause. */
  detail: string
}

/** Rows and a hash of a table as it stood in one snapshot; of growing tables, the rows that existed then. */
export interface TableHash {
  table: string
  rows: number
  hash: string
}

/** Condition that keeps rows of a growing table apart from later ones: keys only grow. */
export interface Baseline {
  tables: TableHash[]
  /** Number of the newest transaction in the snapshot. */
  seq: number
}

/** Hashes every table in one consistent snapshot, while the shop goes on. */
export async function recordBaseline(url: string, size: ShopSize): Promise<Baseline> {
  return withClient(url, async (client) => {
    await client.query('begin isolation level repeatable read read only')
    const { rows } = await client.query<{ seq: string }>('select coalesce(max(seq), 0)::text as seq from payments')
    const seq = Number(rows[0]?.seq)
    const tables = await hashTables(client, size, seq, [])
    await client.query('commit')
    return { tables, seq }
  })
}

/** Compares the tables with the baseline's; `gone` names those that must not exist. */
export async function proveTables(
  client: pg.Client,
  size: ShopSize,
  baseline: Baseline,
  gone: readonly string[],
): Promise<Proof[]> {
  const found = await hashTables(client, size, baseline.seq, gone)
  const proofs = baseline.tables
    .filter(({ table }) => !gone.includes(table))
    .map((expected) => {
      const actual = found.find(({ table }) => table === expected.table)
      const passed = actual?.rows === expected.rows && actual.hash === expected.hash
      const detail = passed
        ? `${expected.rows} rows, hash ${expected.hash}`
        : `expected ${expected.rows} rows with hash ${expected.hash}, found ${actual?.rows} with ${actual?.hash}`
      return { name: `table ${expected.table}`, passed, detail }
    })
  for (const table of gone) {
    const { rows } = await client.query<{ oid: string | null }>('select to_regclass($1)::text as oid', [table])
    const isGone = rows[0]?.oid === null
    proofs.push({
      name: `table ${table}`,
      passed: isGone,
      detail: isGone ? 'dropped, as it was at the end' : 'still there',
    })
  }
  return proofs
}

/** Act one: the database holds exactly what was committed up to the moment. */
export async function proveMoment(
  client: pg.Client,
  size: ShopSize,
  commits: readonly Acknowledged[],
  targetUs: bigint,
): Promise<Proof[]> {
  const verdict = judgeMoment(commits, await recoveredNumbers(client), targetUs)
  const moment = isoMicroseconds(targetUs)
  return [
    {
      name: 'every commit up to the moment',
      passed: verdict.missing.length === 0,
      detail: `${verdict.expected - verdict.missing.length} of ${verdict.expected} committed by ${moment} are there${examples(verdict.missing)}`,
    },
    {
      name: 'nothing after the moment',
      passed: verdict.surplus.length === 0,
      detail: `${verdict.surplus.length} later commits are there${examples(verdict.surplus)}`,
    },
    await proveNone(client, 'no half transaction', tornTransactions(size), 'orders without their lines or payment'),
    await proveNone(client, 'content of every payment', WRONG_PAYMENTS, 'payments with other content than was written'),
  ]
}

/** Act two: what was called durable is there, and the loss is only the log's unshipped end. */
export async function proveEnd(
  client: pg.Client,
  commits: readonly Acknowledged[],
  crash: { at: number; durableUntil: number; objectiveMs: number },
): Promise<{ proofs: Proof[]; lost: number; lossMs: number }> {
  const verdict = judgeEnd(commits, await recoveredNumbers(client), crash.at, crash.durableUntil)
  const durable = new Date(crash.durableUntil).toISOString()
  const promised = commits.filter(({ acknowledgedAt }) => acknowledgedAt <= crash.durableUntil).length
  const proofs: Proof[] = [
    {
      name: 'every commit that was called durable',
      passed: verdict.brokenPromises.length === 0,
      detail: `${promised - verdict.brokenPromises.length} of ${promised} acknowledged by ${durable} are there${examples(verdict.brokenPromises)}`,
    },
    {
      name: 'no hole before the end',
      passed: verdict.holes.length === 0,
      detail: `${verdict.holes.length} missing before the newest commit that is there${examples(verdict.holes)}`,
    },
    {
      name: 'nothing that was never written',
      // One may be there: the server died between its commit and its word.
      passed: verdict.unacknowledged.length <= 1,
      detail: `${verdict.unacknowledged.length} without an acknowledgement (1 is possible in a crash)`,
    },
    {
      name: 'loss within the objective',
      passed: verdict.lossMs <= crash.objectiveMs,
      detail: `${verdict.lost} of ${verdict.acknowledged} acknowledged commits lost, the oldest ${verdict.lossMs} ms before the crash (objective ${crash.objectiveMs} ms)`,
    },
    await proveNone(client, 'content of every payment', WRONG_PAYMENTS, 'payments with other content than was written'),
  ]
  return { proofs, lost: verdict.lost, lossMs: verdict.lossMs }
}

export async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: 'regain demo' })
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

/** Order does not matter to a sum, so no sort is needed; each row's text goes through a 64-bit hash. */
async function hashTables(
  client: pg.Client,
  size: ShopSize,
  seq: number,
  gone: readonly string[],
): Promise<TableHash[]> {
  const hashes: TableHash[] = []
  for (const { name } of shopTables(size).flat()) {
    if (gone.includes(name)) continue
    const { rows } = await client.query<{ rows: string; hash: string | null }>(
      `select count(*)::text as rows, sum(hashtextextended(t::text, 0)::numeric)::text as hash from ${name} t where ${existedAt(name, size, seq)}`,
    )
    hashes.push({ table: name, rows: Number(rows[0]?.rows), hash: rows[0]?.hash ?? '0' })
  }
  return hashes
}

function existedAt(table: string, size: ShopSize, seq: number): string {
  if (table === 'orders') return `id <= ${size.orders + seq}`
  if (table === 'order_lines') return `order_id <= ${size.orders + seq}`
  if (table === 'payments') return `seq <= ${seq}`
  return 'true'
}

async function recoveredNumbers(client: pg.Client): Promise<Set<number>> {
  const { rows } = await client.query<{ seq: string }>('select seq::text from payments')
  return new Set(rows.map(({ seq }) => Number(seq)))
}

async function proveNone(client: pg.Client, name: string, sql: string, what: string): Promise<Proof> {
  const { rows } = await client.query<{ count: string }>(sql)
  const found = Number(rows[0]?.count)
  return { name, passed: found === 0, detail: `${found} ${what}` }
}

function examples(numbers: readonly number[]): string {
  if (numbers.length === 0) return ''
  const shown = numbers.slice(0, 5).join(', ')
  return ` (${numbers.length > 5 ? `${shown}, …` : shown})`
}
