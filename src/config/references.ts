import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { isAlias, isMap, isScalar, isSeq, type Node } from 'yaml'
import { invalidConfiguration, type Mistake, type ParsedFile, type Path, pathText } from './mistakes.ts'

/** Settings that hold a secret: they may come from a file, and are masked when shown. */
const SECRET_SETTINGS = [
  'url',
  'passphrase',
  'secretAccessKey',
  'sessionToken',
  'token',
  'secretId',
  'accountKey',
  'sas',
  'connectionString',
  'password',
]

/** Far beyond any configuration. Aliases could ask for more than this machine holds, or for themselves without end. */
const MAX_DEPTH = 50
const MAX_NODES = 100_000

const REFERENCE = /\$(\$\{|\{([^}]*)\})/g
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/

export interface References {
  /** The document as plain values, references replaced by what they name. */
  value: unknown
  /** By path text: what was written where a reference stood. */
  written: Map<string, string>
  /** References that name what is not there; their text stays as written in `value`. */
  missing: (Mistake & { path: Path })[]
  /** References that are not well formed. */
  mistakes: Mistake[]
}

/**
 * Replaces `${NAME}` by the environment's variable and, in secret settings, `file:PATH` by that file's text without its
 * last newline. `$${` stands for `${` itself. The values found are never part of a message. Rejects with
 * `config-invalid` if the document's aliases make it endless or huge.
 */
export async function resolveReferences(
  file: ParsedFile,
  environment: Readonly<Record<string, string | undefined>>,
  directory: string,
): Promise<References> {
  const found: References = { value: undefined, written: new Map(), missing: [], mistakes: [] }
  let nodes = 0
  found.value = await walk(file.document.contents, [])
  return found

  async function walk(node: Node | null, path: Path): Promise<unknown> {
    nodes++
    if (path.length > MAX_DEPTH || nodes > MAX_NODES) {
      const message = `${pathText(path.slice(0, 1))}: is nested too deeply or too large; do its aliases (*) contain themselves?`
      throw invalidConfiguration(file, [{ offset: node?.range?.[0] ?? 0, message }])
    }
    if (isAlias(node)) return walk(node.resolve(file.document) ?? null, path)
    if (isMap(node)) {
      // No prototype: a key called __proto__ is a key like any other.
      const result: Record<string, unknown> = Object.create(null)
      for (const pair of node.items) {
        const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key)
        result[key] = await walk(pair.value as Node | null, [...path, key])
      }
      return result
    }
    if (isSeq(node)) {
      const items: unknown[] = []
      for (const [i, item] of node.items.entries()) items.push(await walk(item as Node | null, [...path, i]))
      return items
    }
    if (!isScalar(node)) return null
    return typeof node.value === 'string' ? await expand(node.value, path, node.range?.[0] ?? 0) : node.value
  }

  async function expand(text: string, path: Path, offset: number): Promise<string> {
    const missing = (message: string) => {
      found.missing.push({ path, offset, message: `${pathText(path)}: ${message}` })
      return text
    }
    if (text.startsWith('file:') && SECRET_SETTINGS.includes(String(path.at(-1)))) {
      found.written.set(pathText(path), text)
      const secretPath = resolve(directory, text.slice('file:'.length))
      try {
        return (await readFile(secretPath, 'utf8')).replace(/\r?\n$/, '')
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code
        return missing(
          code === 'ENOENT'
            ? `the file ${secretPath} does not exist`
            : `the file ${secretPath} cannot be read (${code})`,
        )
      }
    }
    let lacking: string | null = null
    const result = text.replace(REFERENCE, (whole, escaped: string, name: string | undefined) => {
      if (escaped === '${') return '${'
      found.written.set(pathText(path), text)
      if (name === undefined || !VARIABLE.test(name)) {
        found.mistakes.push({ offset, message: `${pathText(path)}: ${whole} is not a reference: write \${NAME}` })
        return whole
      }
      const value = environment[name]
      if (value === undefined || value === '') lacking ??= name
      return value ?? ''
    })
    return lacking === null ? result : missing(`the environment variable ${lacking} is not set`)
  }
}

/** True for the settings whose value must never be shown. */
export function isSecretSetting(key: string): boolean {
  return SECRET_SETTINGS.includes(key)
}
