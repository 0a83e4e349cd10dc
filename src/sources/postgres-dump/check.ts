import type pg from 'pg'
import { isRegainError, throwIfInterrupted } from '../../errors.ts'
import type { Finding } from '../../model.ts'
import { chooseServer } from '../postgres/protocol/choose-server.ts'
import { withSql } from '../postgres/protocol/connection.ts'
import { quoteIdentifier } from '../postgres/protocol/connection-errors.ts'
import { type ConnectionConfig, describeConnection, isLoopback } from '../postgres/protocol/connection-url.ts'
import { findClientPrograms } from '../postgres/server/programs.ts'
import type { DumpJob } from './backup.ts'
import { DUMPING } from './dump-files.ts'
import { readServer, type ServerOfDumps } from './server.ts'

/** What would keep dumps or their restore from working, with a fix for each. Changes nothing, and waits for no lock. */
export async function checkDumps(job: DumpJob, signal: AbortSignal): Promise<Finding[]> {
  let config: ConnectionConfig
  let server: ServerOfDumps
  try {
    config = await chooseServer(job.servers, signal)
    server = await readServer(config, job.databases, signal)
  } catch (error) {
    return [asFinding('connection', error)]
  }
  const where = `${describeConnection(config)} answers: PostgreSQL ${server.version}${server.standby ? ', a standby' : ''}.`
  const findings = [ok('connection', where), await checkTransport(config, signal), await checkPrograms(job, server)]
  findings.push(checkPasswords(config, server), ...checkNames(server))
  for (const database of server.databases) {
    throwIfInterrupted(signal)
    try {
      const reach = await withSql({ ...config, database }, signal, (client) => lookAround(client, server))
      findings.push(...checkReach(config, database, server, job, reach))
    } catch (error) {
      findings.push(asFinding('database', error))
    }
  }
  return findings
}

async function checkTransport(config: ConnectionConfig, signal: AbortSignal): Promise<Finding> {
  if (isLoopback(config)) return ok('tls', 'The connection does not leave this machine.')
  const encrypted = await withSql(config, signal, async (client) => {
    const { rows } = await client.query<{ ssl: boolean }>(
      'select ssl from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid()',
    )
    return rows[0]?.ssl === true
  })
  if (encrypted) return ok('tls', 'The connection is encrypted.')
  return {
    severity: 'warning',
    code: 'tls',
    message: 'The connection is not encrypted: everything in the databases crosses the network in clear.',
    fix: "ALTER SYSTEM SET ssl = on; with a certificate, then SELECT pg_reload_conf(); and sslmode=verify-full in the source's URL",
  }
}

async function checkPrograms(job: DumpJob, { major }: ServerOfDumps): Promise<Finding> {
  try {
    const { directory, version } = await findClientPrograms(major, DUMPING, job.search)
    return ok('programs', `pg_dump ${version} of ${directory} will be used.`)
  } catch (error) {
    return asFinding('programs', error)
  }
}

function checkPasswords({ user }: ConnectionConfig, server: ServerOfDumps): Finding {
  if (server.canReadPasswords) return ok('role-passwords', 'Roles are dumped with their passwords.')
  return {
    severity: 'warning',
    code: 'role-passwords',
    message: `${user} may not read passwords of roles, so they are not in the points: after a restore they must be set anew.`,
    fix: `GRANT SELECT ON pg_authid TO ${quoteIdentifier(user)}; in the database of the URL, by a superuser; or accept it`,
  }
}

function checkNames({ absent }: ServerOfDumps): Finding[] {
  return absent.map((name) => ({
    severity: 'error',
    code: 'database',
    message: `There is no database ${name} that takes connections, and it is to be dumped.`,
    fix: 'Correct databases: of this source.',
  }))
}

interface Reach {
  tables: number
  unreadable: string[]
  guarded: string[]
  unlogged: number
  largeObjects: number
  locks: number
}

const NAMED = 5

async function lookAround(client: pg.Client, { isSuperuser, bypassesRowSecurity }: ServerOfDumps): Promise<Reach> {
  const { rows } = await client.query<{ name: string; readable: boolean; guarded: boolean; unlogged: boolean }>(
    `select pg_catalog.format('%I.%I', n.nspname, c.relname) as name, c.relrowsecurity as guarded, c.relpersistence = 'u' as unlogged,
       pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select') as readable
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'S') and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and not exists (select from pg_catalog.pg_depend d
         where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e')
     order by 1`,
  )
  const state = await client.query<{ objects: string; locks: string }>(
    `select (select count(*) from pg_catalog.pg_largeobject_metadata l
         where not pg_catalog.pg_has_role(l.lomowner, 'usage') and l.lomacl is null) as objects,
       pg_catalog.current_setting('max_locks_per_transaction')::bigint
         * (pg_catalog.current_setting('max_connections')::bigint + pg_catalog.current_setting('max_prepared_transactions')::bigint) as locks`,
  )
  return {
    tables: rows.length,
    unreadable: isSuperuser ? [] : rows.filter(({ readable }) => !readable).map(({ name }) => name),
    guarded: bypassesRowSecurity ? [] : rows.filter(({ guarded }) => guarded).map(({ name }) => name),
    unlogged: rows.filter(({ unlogged }) => unlogged).length,
    largeObjects: isSuperuser ? 0 : Number(state.rows[0]?.objects ?? 0),
    locks: Number(state.rows[0]?.locks ?? 0),
  }
}

function checkReach(
  { user }: ConnectionConfig,
  database: string,
  server: ServerOfDumps,
  job: DumpJob,
  reach: Reach,
): Finding[] {
  const role = quoteIdentifier(user)
  const some = (names: string[]) => names.slice(0, NAMED).join(', ') + (names.length > NAMED ? ' and others' : '')
  const problems: Finding[] = []
  const error = (code: string, message: string, fix: string) => problems.push({ severity: 'error', code, message, fix })
  if (reach.unreadable.length > 0) {
    const grant =
      server.major >= 14
        ? `GRANT pg_read_all_data TO ${role};`
        : `GRANT SELECT ON ALL TABLES IN SCHEMA … TO ${role}; and on all sequences, in ${database}`
    error('read-rights', `${user} may not read ${some(reach.unreadable)} in ${database}.`, grant)
  }
  if (reach.guarded.length > 0) {
    const message = `Row security would keep rows of ${some(reach.guarded)} in ${database} from ${user}, so they can't be dumped.`
    error('row-security', message, `ALTER ROLE ${role} BYPASSRLS;`)
  }
  if (reach.largeObjects > 0) {
    const message = `${user} may not read ${reach.largeObjects} large objects in ${database}.`
    error('large-objects', message, 'Dump as a superuser, or as the role that owns them.')
  }
  if (reach.tables > reach.locks) {
    const message = `${database} has ${reach.tables} tables, and the server has room for ${reach.locks} locks; a dump needs one for each.`
    error(
      'locks',
      message,
      `ALTER SYSTEM SET max_locks_per_transaction = ${Math.ceil((64 * reach.tables * 1.5) / reach.locks) * 64}; then restart the server`,
    )
  }
  if (server.standby && job.unlogged && reach.unlogged > 0) {
    const message = `${reach.unlogged} tables of ${database} are unlogged: a standby has none of their rows, so points will be incomplete.`
    problems.push({
      severity: 'warning',
      code: 'unlogged',
      message,
      fix: 'Dump the primary, or write unlogged: false.',
    })
  }
  if (problems.length > 0) return problems
  return [ok('database', `${database} can be dumped: ${reach.tables} tables and sequences.`)]
}

function ok(code: string, message: string): Finding {
  return { severity: 'ok', code, message }
}

function asFinding(code: string, error: unknown): Finding {
  if (!isRegainError(error) || error.code === 'interrupted') throw error
  return { severity: 'error', code, message: error.message, fix: error.hint }
}
