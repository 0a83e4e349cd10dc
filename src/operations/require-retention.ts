import type { ServiceConfiguration, SourceConfiguration } from '../config/configuration.ts'
import { RegainError } from '../errors.ts'

/**
 * Backups without retention rules are refused: they grow until the destination is full, and nobody has said for how long the
 * data may be kept. What there is can be listed, verified and restored all the same.
 */
export function requireRetention(service: ServiceConfiguration, sources: readonly SourceConfiguration[]): void {
  const without = sources.filter(({ name }) => service.retention[name] === undefined)
  if (without.length === 0) return
  const names = without.map(({ name }) => `${service.name}/${name}`).join(', ')
  throw new RegainError(
    'config-invalid',
    `${names}: no retention rules say how long points are kept. Nothing was done.`,
    {
      hint: `Write at the service, for example: retention: { daily: 30, weekly: 12, monthly: 12, yearly: 7 } (or a preset, or keep-all; docs/how-to/retention.md)`,
    },
  )
}
