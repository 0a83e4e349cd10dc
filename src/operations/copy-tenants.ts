import type { DestinationConfiguration, ServiceConfiguration } from '../config/configuration.ts'
import { throwIfInterrupted } from '../errors.ts'
import type { Repository } from '../repository/api.ts'
import { tellsDestroyed } from '../repository/repository.ts'
import type { Application, Reporting } from './context.ts'
import { copyPoint } from './copy-point.ts'
import { missingPoints } from './missing-points.ts'
import { withRepository } from './repositories.ts'
import { unneededIn } from './retention-plan.ts'
import { tenantService } from './targets.ts'
import { ensureTenant, knownTenants, type TenantSource } from './tenants.ts'

export interface CopiedTenants {
  service: ServiceConfiguration
  source: TenantSource
  from: DestinationConfiguration
  to: DestinationConfiguration
  /** Also what is older than the newest point there. */
  all: boolean
}

/**
 * Brings the points of each tenant from one destination to another; the source's log, with their ids, was brought before.
 * A tenant whose keys were destroyed, at either, is left as it is. Rejects with the first failure: what was copied counts.
 */
export async function copyTenants(
  application: Application,
  about: CopiedTenants,
  repositories: { from: Repository; to: Repository },
  reporting: Reporting,
): Promise<void> {
  const { service, source } = about
  for (const id of await knownTenants(repositories.from, source)) {
    throwIfInterrupted(reporting.signal)
    const tenant = tenantService(service, source, id)
    try {
      await withRepository(application, tenant, about.from, async (from) => {
        await ensureTenant(application, repositories.to, source, tenant, about.to)
        await withRepository(application, tenant, about.to, (to) =>
          copyMissing(application, tenant, about, { from, to }, reporting),
        )
      })
    } catch (error) {
      if (!tellsDestroyed(error)) throw error
      application.ambient.log('info', error.message)
    }
  }
}

async function copyMissing(
  application: Application,
  tenant: ServiceConfiguration,
  { source, to: destination, all }: CopiedTenants,
  { from, to }: { from: Repository; to: Repository },
  reporting: Reporting,
): Promise<void> {
  const here = { repository: from.id, points: await from.points({ source: source.name }) }
  const there = { repository: to.id, points: await to.points({ source: source.name }) }
  const unneeded = () => unneededIn(application, tenant, destination, to, reporting)
  for (const { id } of missingPoints(here, there, { all, now: application.ambient.now() }))
    await copyPoint(application.ambient, from, to, id, reporting, { unneeded })
}
