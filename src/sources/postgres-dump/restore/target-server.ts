import { isRegainError, RegainError } from '../../../errors.ts'
import { checkTargetDatabase } from '../../postgres/parts/target-database.ts'
import { withSql } from '../../postgres/protocol/connection.ts'
import { sqlStateOf } from '../../postgres/protocol/connection-errors.ts'
import { type ConnectionConfig, describeConnection } from '../../postgres/protocol/connection-url.ts'

export interface TargetServer {
  /** To one of its databases that is there for certain. */
  config: ConnectionConfig
  major: number
  databases: Set<string>
  isSuperuser: boolean
}

/** The database of the URL need not be there: then another one is asked. */
export async function askTarget(config: ConnectionConfig, signal: AbortSignal): Promise<TargetServer> {
  for (const database of new Set([config.database, 'postgres', 'template1'])) {
    try {
      return await ask({ ...config, database }, signal)
    } catch (error) {
      if (!isRegainError(error) || sqlStateOf(error) !== '3D000') throw error
    }
  }
  throw new RegainError('source-unsuitable', `${describeConnection(config)} has no database that could be asked.`)
}

function ask(config: ConnectionConfig, signal: AbortSignal): Promise<TargetServer> {
  return withSql(config, signal, async (client) => {
    const { rows } = await client.query<{ name: string }>('select datname as name from pg_catalog.pg_database')
    const state = await client.query<{ version: string; super: boolean }>(
      `select pg_catalog.current_setting('server_version_num') as version, rolsuper as super
       from pg_catalog.pg_roles where rolname = current_user`,
    )
    return {
      config,
      major: Math.floor(Number(state.rows[0]?.version) / 10_000),
      databases: new Set(rows.map(({ name }) => name)),
      isSuperuser: state.rows[0]?.super === true,
    }
  })
}

/** Rejects with `target-not-empty`, naming what is there. */
export async function requireEmpty(config: ConnectionConfig, signal: AbortSignal): Promise<void> {
  await checkTargetDatabase(config, { database: config.database, schema: null, tables: [] }, [], signal)
}
