import type { TestContext } from 'node:test'
import {
  type FoundLoss,
  type LogSearch,
  type SearchSummary,
  searchLog,
} from '../../src/sources/postgres/search/search.ts'
import type { TestPostgres } from './postgres.ts'
import type { Protection } from './postgres-protection.ts'

/** Everything in a test's log, or what `wanted` narrows it down to. */
export async function searchTestLog(
  t: TestContext,
  { repository }: Protection,
  wanted: Partial<Pick<LogSearch, 'table' | 'schema' | 'database' | 'rows' | 'updates' | 'from' | 'to'>> = {},
): Promise<{ losses: FoundLoss[]; summary: SearchSummary }> {
  const losses: FoundLoss[] = []
  const anything = { database: null, schema: null, table: null, rows: 100, updates: false, from: null, to: null }
  const summary = await searchLog(
    {
      ...anything,
      ...wanted,
      points: await repository.points({ source: 'db' }),
      store: repository.log('db'),
      async withPoint(id, use) {
        const point = await repository.openPoint(id, { signal: t.signal })
        try {
          return await use(point)
        } finally {
          await point.close()
        }
      },
      found: (loss) => losses.push(loss) > 0,
    },
    { signal: t.signal, progress: () => undefined, warn: () => undefined },
  )
  return { losses, summary }
}

/** Runs statements in one transaction and gives its number. */
export async function transaction(
  postgres: TestPostgres,
  statements: string[],
  end = 'commit',
  database?: string,
): Promise<number> {
  const client = await postgres.connect(database)
  await client.query('begin')
  const { rows } = await client.query<{ xid: string }>('select txid_current()::text as xid')
  for (const statement of statements) await client.query(statement)
  await client.query(end)
  await client.end()
  return Number(rows[0]?.xid)
}
