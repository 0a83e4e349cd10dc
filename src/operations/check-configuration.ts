import type { Configuration, ConfigurationNote } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'

export interface ConfigurationReport {
  path: string
  services: number
  sources: number
  warnings: ConfigurationNote[]
}

/**
 * Sums up a configuration that could be read. Here a reference that names what is not there is an error, also where
 * other commands would do without the part it belongs to; and so is a source whose backups are refused.
 */
export function checkConfiguration(config: Configuration): ConfigurationReport {
  const services = Object.values(config.services)
  const sources = services.flatMap((service) => Object.values(service.sources))
  const unresolved = [...Object.values(config.destinations), ...Object.values(config.keys), ...sources].flatMap(
    (part) => part.unresolved ?? [],
  )
  if (unresolved.length > 0) {
    const lines = unresolved.map((line) => `  ${line}`).join('\n')
    throw new RegainError('config-invalid', `References name what is not there. Nothing was done.\n${lines}`, {
      hint: 'Set the variable where Regain runs, or correct the reference.',
    })
  }
  const refused = config.warnings.filter(({ isRefused }) => isRefused)
  if (refused.length > 0) {
    const lines = refused.map(({ place, message }) => `  ${place}: ${message}`).join('\n')
    throw new RegainError('config-invalid', `Backups are refused. Nothing was done.\n${lines}`)
  }
  return { path: config.path, services: services.length, sources: sources.length, warnings: config.warnings }
}
