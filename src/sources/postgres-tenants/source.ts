import type { PointReader, RestoreSummary, RestoreTarget, Source, SourceOptions } from '../contract.ts'
import { requirePlainRestore } from '../postgres/parts/point-of-files.ts'
import { describeServers, parseServerUrl } from '../postgres/protocol/connection-url.ts'
import { backupTenants } from './backup.ts'
import { checkTenants } from './check.ts'
import { createTenantRestore } from './restore/restore-tenant.ts'
import type { TenantRules } from './rules.ts'

export interface PostgresTenantsConfig {
  url: string
  rules: TenantRules
  /** The source stands for one tenant alone: its points are of that. */
  isOne: boolean
}

/** The tenants of a database of PostgreSQL, 13 to 18: each one's rows alone, of one moment. */
export function createPostgresTenantsSource({ url, rules, isOne }: PostgresTenantsConfig): Source {
  const job = { servers: parseServerUrl(url), rules, isOne }
  return {
    type: 'postgres-tenants',
    unordered: true,
    description: describeServers(job.servers),
    check: ({ signal }) => checkTenants(job, signal),
    backup: (writer, options) => backupTenants(job, writer, options),
    restore: restoreFiles,
    ...(isOne ? { parts: createTenantRestore(rules) } : {}),
  }
}

/** The files as they were made, for psql. */
async function restoreFiles(
  reader: PointReader,
  target: RestoreTarget,
  options: SourceOptions,
): Promise<RestoreSummary> {
  requirePlainRestore('tenants', target)
  const summary = await reader.materialize(target.directory, options)
  const { at: moment } = reader.point.positions
  return { ...summary, ...(typeof moment === 'string' ? { reached: moment } : {}) }
}
