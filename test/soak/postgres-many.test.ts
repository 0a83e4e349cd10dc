import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startPostgres } from '../support/postgres.ts'
import { protect } from '../support/postgres-protection.ts'

const TABLES = Number(process.env.REGAIN_SOAK_TABLES ?? 100_000)
/** Locks of a transaction are bounded, and so is what one of them makes. */
const TOGETHER = 500

test('a cluster of very many tables is backed up, in whole and in part, and comes back', async (t) => {
  const postgres = await startPostgres(t, {
    dataChecksums: true,
    settings: { summarize_wal: 'on', max_locks_per_transaction: '256', max_wal_size: '4GB', autovacuum: 'off' },
  })
  const client = await postgres.connect()
  await client.query(`create procedure make(tables int) language plpgsql as $$
    begin
      for i in 1..tables loop
        execute format('create table t_%s (n int, text text)', i);
        if i % 2 = 0 then execute format('insert into t_%s values (%s, %L)', i, i, 'first'); end if;
        if i % ${TOGETHER} = 0 then commit; end if;
      end loop;
    end $$`)
  await client.query(`call make(${TABLES})`)
  const protection = await protect(t)
  const first = await protection.takePoint(postgres)
  for (let i = 1; i <= TABLES; i += Math.ceil(TABLES / 100))
    await client.query(`insert into t_${i} values (${i}, 'second')`)
  const second = await protection.takePoint(postgres, 'incremental')
  assert.deepEqual([second.kind, second.complete], ['incremental', true], protection.warnings.join('\n'))
  assert.ok(second.bytes.read < first.bytes.read / 2, `${second.bytes.read} of ${first.bytes.read}`)
  t.diagnostic(`at most ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`)

  const { postgres: copy } = await protection.recover(postgres, { kind: 'latest' })
  const count = `select count(*)::int as tables, sum(reltuples)::int as tuples from pg_class where relname like 't\\_%' and relkind = 'r'`
  assert.deepEqual(await copy.query(count), await postgres.query(count))
  for (let i = 1; i <= TABLES; i += Math.ceil(TABLES / 100)) {
    const rows = `select text from t_${i} order by 1`
    assert.deepEqual(await copy.query(rows), await postgres.query(rows))
  }
})
