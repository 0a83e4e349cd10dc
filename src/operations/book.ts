import { type Catalog, openCatalog } from '../catalog/catalog.ts'
import type { Application, Reporting } from './context.ts'
import { asRegainError } from './failures.ts'

/** The local book of runs is a convenience: without it, null, everything is done all the same. */
export function openBook(application: Application, reporting: Reporting): Catalog | null {
  const { config, ambient, processId } = application
  try {
    const catalog = openCatalog({ directory: config.state, ambient, pid: processId })
    if (catalog.notice !== null) reporting.warn(catalog.notice)
    return catalog
  } catch (error) {
    const { message } = asRegainError(error, reporting.signal)
    reporting.warn(`This run is not noted in the state directory ${config.state}: ${message}`)
    return null
  }
}
