import pg from 'pg'
import type { Ambient } from '../model.ts'
import type { Acknowledged } from './acknowledged.ts'
import { orderStatements, paymentStatement, type ShopSize } from './shop.ts'

/** The shop's customers: one transaction after the other, each remembered when the server has acknowledged it. */
export interface Writer {
  /** In the order of their numbers; grows while the writer runs. */
  readonly commits: readonly Acknowledged[]
  /** How many orders the shop had to turn away since its table was gone. */
  refusedOrders(): number
  /** Stops after the transaction under way. Safe to repeat, also when the server is gone. */
  stop(): Promise<void>
  /** Resolves when the connection is lost, which is how the writer notices the end of its server; rejects on its own failure. */
  readonly ended: Promise<void>
}

/** SQLSTATE undefined_table. */
const UNDEFINED_TABLE = '42P01'
/** A shop does not order without a breath; about 200 transactions a second are plenty. */
const PAUSE_MS = 3

export async function startWriter(url: string, size: ShopSize, ambient: Ambient): Promise<Writer> {
  const client = new pg.Client({ connectionString: url, application_name: 'shop' })
  // The server will be killed: the query under way rejects, and there is nothing more to do about the connection.
  client.on('error', () => {})
  await client.connect()
  const commits: Acknowledged[] = []
  let isStopped = false
  let refused = 0

  const ended = run()
  // Whoever waits for the end hears of a failure; until then it is nobody's unhandled one.
  ended.catch(() => undefined)
  return {
    commits,
    refusedOrders: () => refused,
    ended,
    async stop() {
      isStopped = true
      await ended
    },
  }

  async function run(): Promise<void> {
    try {
      for (let seq = 1; !isStopped; seq++) {
        await transaction(seq)
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      }
      await client.end()
    } catch (error) {
      if (!isConnectionLoss(error)) throw error
    }
  }

  async function transaction(seq: number): Promise<void> {
    if (refused === 0 && (await order(seq))) return
    refused++
    const xid = await committed(paymentStatement(seq, null))
    await acknowledge(seq, 'payment', xid)
  }

  /** False when there is no table of orders any more. */
  async function order(seq: number): Promise<boolean> {
    try {
      const xid = await committed(orderStatements(seq, size))
      await acknowledge(seq, 'order', xid)
      return true
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.code !== UNDEFINED_TABLE) throw error
      await client.query('rollback')
      return false
    }
  }

  /** Runs the statements as one transaction; resolves with its id when the server has acknowledged the commit. */
  async function committed(statements: string): Promise<string> {
    await client.query('begin')
    await client.query(statements)
    const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::xid::text as xid')
    await client.query('commit')
    return rows[0]?.xid ?? ''
  }

  async function acknowledge(seq: number, kind: Acknowledged['kind'], xid: string): Promise<void> {
    const commit: Acknowledged = { seq, kind, acknowledgedAt: ambient.now(), committedAtUs: null }
    commits.push(commit)
    // The commit record's own time: what a recovery to a moment goes by. Needs track_commit_timestamp.
    const { rows } = await client.query<{ us: string }>(
      'select (extract(epoch from pg_xact_commit_timestamp($1::text::xid)) * 1000000)::bigint::text as us',
      [xid],
    )
    commit.committedAtUs = BigInt(rows[0]?.us ?? '0')
  }
}

/** The server died or ended the connection: SQLSTATE class 57P, or an error of the socket. */
function isConnectionLoss(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return error.code?.startsWith('57P') === true
  return error instanceof Error && (/terminated|not queryable|ended/i.test(error.message) || 'errno' in error)
}
