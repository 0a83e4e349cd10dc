import { z } from 'zod'
import { configurationSchema } from './schema.ts'

/** The JSON Schema (draft 2020-12) of regain.yaml, for editors. References may stand wherever text may. */
export function configurationJsonSchema(): Record<string, unknown> {
  const { $schema, ...schema } = z.toJSONSchema(configurationSchema, { io: 'input' })
  return { $schema, title: 'Configuration of Regain (regain.yaml)', ...schema }
}
