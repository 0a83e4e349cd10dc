import type { Configuration, ConfigurationNote } from '../config/configuration.ts'
import { isRegainError, RegainError } from '../errors.ts'
import type { Drivers } from './context.ts'

export interface ConfigurationReport {
  path: string
  services: number
  sources: number
  warnings: ConfigurationNote[]
}

/**
 * Sums up a configuration that could be read. Here a reference that names what is not there is an error, also where
 * other commands would do without the part it belongs to; and so are settings that their driver refuses, and a source
 * whose backups are refused.
 */
export async function checkConfiguration(
  config: Configuration,
  drivers: Pick<Drivers, 'checkSettings'>,
): Promise<ConfigurationReport> {
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
  const mistakes: string[] = []
  for (const service of services)
    for (const source of Object.values(service.sources))
      try {
        await drivers.checkSettings({ service, source })
      } catch (error) {
        if (!isRegainError(error, 'config-invalid')) throw error
        mistakes.push(`  ${source.place}: services.${service.name}.sources.${source.name}: ${error.message}`)
      }
  if (mistakes.length > 0)
    throw new RegainError('config-invalid', `Sources cannot be used. Nothing was done.\n${mistakes.join('\n')}`)
  const refused = config.warnings.filter(({ isRefused }) => isRefused)
  if (refused.length > 0) {
    const lines = refused.map(({ place, message }) => `  ${place}: ${message}`).join('\n')
    throw new RegainError('config-invalid', `Backups are refused. Nothing was done.\n${lines}`)
  }
  return { path: config.path, services: services.length, sources: sources.length, warnings: config.warnings }
}
