import type { Session } from './cli.ts'

/** SERVICE/SOURCE and --tenant, as all operations take them: SERVICE.SOURCE.ID/SOURCE. Without --tenant what was written. */
export async function tenantTarget(session: Session, target: string, tenant: string | undefined): Promise<string> {
  if (tenant === undefined) return target
  const { findTenant } = await import('../operations/tenants.ts')
  const { service, source } = await findTenant(await session.application(), target, tenant, session.reporting)
  return `${service.name}/${source}`
}
