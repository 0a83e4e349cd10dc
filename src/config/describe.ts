import type { z } from 'zod'
import { type Mistake, offsetOfKey, offsetOfValue, type ParsedFile, type Path, pathText } from './mistakes.ts'
import { isSecretSetting } from './references.ts'
import { AVAILABLE, configurationSchema, NOT_YET } from './schema.ts'
import { suggestion } from './suggest.ts'

type Issue = z.core.$ZodIssue
type Schema = z.core.$ZodType

/** Settings that the file format reserves: named as such, not as typing mistakes. */
const RESERVED_SETTINGS = ['tiers', 'quota', 'replicate', 'alerts', 'catalog']

/** How messages begin that the schema does not word itself. */
const ZOD_DEFAULT = 'Invalid input'

const TYPE_NAMES: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  object: 'settings (name: value)',
  record: 'names with settings under them',
  array: 'a list',
  boolean: 'true or false',
}

/**
 * What is wrong, and what would be right, in the words of the file; one issue may hold several mistakes. `written` holds
 * the text of references by path: what they name is never part of a message, nor is a secret.
 */
export function describeIssue(
  file: ParsedFile,
  value: unknown,
  written: ReadonlyMap<string, string>,
  issue: Issue,
): Mistake[] {
  const path = issue.path as Path
  const where = pathText(path)
  const atValue = (message: string): Mistake[] => [
    { offset: offsetOfValue(file, path), message: where === '' ? message : `${where}: ${message}` },
  ]
  const given = written.get(where) ?? valueAt(value, path)

  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => ({
        offset: offsetOfKey(file, [...path, key]),
        message: unknownKey(key, where, keysAt(value, path)),
      }))
    case 'invalid_key': {
      const problem = issue.issues[0]?.message ?? 'is not a valid name'
      return [{ offset: offsetOfKey(file, path), message: `${where}: "${path.at(-1)}" ${problem}` }]
    }
    case 'invalid_type':
      if (given === undefined) return atValue('is missing')
      if (!issue.message.startsWith(ZOD_DEFAULT)) return atValue(issue.message)
      return atValue(
        isSecretSetting(String(path.at(-1)))
          ? 'must be text'
          : `must be ${TYPE_NAMES[issue.expected] ?? issue.expected}, not ${describeValue(given)}`,
      )
    case 'invalid_value':
      if (given === undefined) return atValue('is missing')
      return atValue(unknownWord(given, issue.values.map(String)))
    case 'invalid_union':
      if (path.at(-1) === 'retention') return describeRetention(file, value, written, issue, given)
      return atValue(issue.path.at(-1) === 'type' ? unknownType(path, given) : unknownCheck(given))
    default:
      return atValue(issue.message)
  }
}

/** One of a few words, or rules: what is written decides which of the two it was to be. */
function describeRetention(
  file: ParsedFile,
  value: unknown,
  written: ReadonlyMap<string, string>,
  issue: Extract<Issue, { code: 'invalid_union' }>,
  given: unknown,
): Mistake[] {
  const isRules = typeof given === 'object' && given !== null && !Array.isArray(given)
  const [ofWords = [], ofRules = []] = issue.errors
  return (isRules ? ofRules : ofWords).flatMap((inner) =>
    describeIssue(file, value, written, { ...inner, path: [...issue.path, ...inner.path] }),
  )
}

function unknownKey(key: string, where: string, allowed: string[]): string {
  const prefix = where === '' ? '' : `${where}: `
  if (RESERVED_SETTINGS.includes(key)) return `${prefix}"${key}" is not available in this version; remove it`
  return `${prefix}unknown setting "${key}"${suggestion(key, allowed)}`
}

function unknownWord(given: unknown, allowed: string[]): string {
  if (allowed.length === 1) return `must be ${allowed[0]}, not ${describeValue(given)}`
  return `${describeValue(given)} is not one of ${allowed.join(', ')}`
}

function unknownType(path: Path, given: unknown): string {
  const kind = path.includes('sources') ? 'sources' : path[0] === 'keys' ? 'keys' : 'destinations'
  const available: readonly string[] = AVAILABLE[kind]
  if (given === undefined) return `is missing; write type: ${available.join(' or ')}`
  if ((NOT_YET[kind] as readonly unknown[]).includes(given)) {
    return `${describeValue(given)} is not available in this version; there is: ${available.join(', ')}`
  }
  return `unknown type ${describeValue(given)}${suggestion(String(given), available)}`
}

function unknownCheck(given: unknown): string {
  return `${describeValue(given)} is not a check: write integrity, schema, startup or { sql: "select …" }`
}

function describeValue(value: unknown): string {
  if (value === null) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'settings'
  return typeof value === 'string' ? `"${value}"` : String(value)
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((at, part) => (at as Record<string | number, unknown> | null | undefined)?.[part], value)
}

/** Settings that may stand at `path`. */
function keysAt(value: unknown, path: Path): string[] {
  let schema: Schema | undefined = configurationSchema
  for (let i = 0; i <= path.length; i++) {
    schema = concrete(schema, valueAt(value, path.slice(0, i)))
    if (i === path.length || schema === undefined) break
    const definition = schema._zod.def as {
      type: string
      shape?: Record<string, Schema>
      valueType?: Schema
      element?: Schema
    }
    schema = definition.shape?.[String(path[i])] ?? definition.valueType ?? definition.element
  }
  const shape = (schema?._zod.def as { shape?: Record<string, Schema> } | undefined)?.shape
  return Object.keys(shape ?? {})
}

/** The schema under wrappers; of a union, the option that has the value's type. */
function concrete(schema: Schema | undefined, value: unknown): Schema | undefined {
  const definition = schema?._zod.def as { innerType?: Schema; options?: Schema[] } | undefined
  if (definition?.innerType) return concrete(definition.innerType, value)
  if (!definition?.options) return schema
  const type = (value as { type?: unknown } | null)?.type
  if (type === undefined) return definition.options.find((option) => 'shape' in option._zod.def)
  return definition.options.find((option) => {
    const shape = (option._zod.def as { shape?: Record<string, Schema> }).shape
    return (shape?.type?._zod.def as { values?: unknown[] } | undefined)?.values?.includes(type) ?? false
  })
}
