import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { LineCounter, parseDocument } from 'yaml'
import { RegainError } from '../errors.ts'
import type { Configuration } from './configuration.ts'
import { describeIssue } from './describe.ts'
import { invalidConfiguration, type ParsedFile } from './mistakes.ts'
import { resolveReferences } from './references.ts'
import { resolveConfiguration } from './resolve.ts'
import { configurationSchema } from './schema.ts'

export interface LoadOptions {
  /** Absolute, or relative to the working directory. */
  path: string
  /** Values of `${NAME}` references, XDG_STATE_HOME and HOME. */
  environment: Readonly<Record<string, string | undefined>>
}

/**
 * Reads and checks a configuration. Rejects with `config-not-found`, `not-permitted`, or `config-invalid` with every
 * mistake at its line and column. Never changes anything, and never asks a server.
 */
export async function loadConfiguration(options: LoadOptions): Promise<Configuration> {
  const path = resolve(options.path)
  const text = await readConfiguration(path)
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const file: ParsedFile = { path, document, lines }
  if (document.errors.length > 0) {
    const mistakes = document.errors.map(({ pos, message }) => ({
      offset: pos[0],
      message: `not valid YAML: ${message}`,
    }))
    throw invalidConfiguration(file, mistakes)
  }

  const references = await resolveReferences(file, options.environment, dirname(path))
  const parsed = configurationSchema.safeParse(references.value)
  if (!parsed.success) {
    const mistakes = parsed.error.issues.flatMap((issue) =>
      describeIssue(file, references.value, references.written, issue),
    )
    throw invalidConfiguration(file, [...mistakes, ...references.mistakes])
  }
  return resolveConfiguration({ file, references, environment: options.environment, written: parsed.data })
}

async function readConfiguration(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') throw new RegainError('config-not-found', `There is no configuration at ${path}.`)
    if (code === 'EACCES' || code === 'EPERM') {
      throw new RegainError('not-permitted', `The configuration ${path} may not be read by this user.`)
    }
    throw new RegainError('config-not-found', `The configuration ${path} cannot be read (${code}).`, {
      hint: 'Name a readable file with --config.',
      cause: error,
    })
  }
}
