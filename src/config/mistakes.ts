import { basename } from 'node:path'
import { type Document, isMap, isNode, isPair, isScalar, type LineCounter, type Node } from 'yaml'
import { RegainError } from '../errors.ts'

export type Path = readonly (string | number)[]

/** Something wrong at one place of the file. */
export interface Mistake {
  /** Offset into the text. */
  offset: number
  message: string
}

/** The parsed file with what is needed to point into it. */
export interface ParsedFile {
  path: string
  document: Document
  lines: LineCounter
}

/** Where the value at `path` begins; if there is none, where the nearest thing around it does. */
export function offsetOfValue(file: ParsedFile, path: Path): number {
  for (let length = path.length; length >= 0; length--) {
    const node = nodeAt(file, path.slice(0, length))
    const start = node?.range?.[0]
    if (start === undefined) continue
    // What is missing from a map is reported at the map's own key, which reads better than its first entry.
    return length < path.length ? offsetOfKey(file, path.slice(0, length)) : start
  }
  return 0
}

/** Where the key that leads to `path` stands. */
export function offsetOfKey(file: ParsedFile, path: Path): number {
  if (path.length === 0) return 0
  const parent = nodeAt(file, path.slice(0, -1))
  if (isMap(parent)) {
    const pair = parent.items.find(
      (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === path.at(-1),
    )
    if (isNode(pair?.key) && pair.key.range) return pair.key.range[0]
  }
  return nodeAt(file, path)?.range?.[0] ?? 0
}

/** 'regain.yaml:12:5'. */
export function placeOf(file: ParsedFile, offset: number): string {
  const { line, col } = file.lines.linePos(offset)
  return `${basename(file.path)}:${line}:${col}`
}

/** 'services.shop.sources.db.url'. */
export function pathText(path: Path): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`)).join('')
}

/** One error that names every mistake, in the order of the file. */
export function invalidConfiguration(file: ParsedFile, mistakes: Mistake[]): RegainError {
  const lines = mistakes
    .toSorted((a, b) => a.offset - b.offset)
    .map((mistake) => `${placeOf(file, mistake.offset)}: ${mistake.message}`)
  const unique = [...new Set(lines)]
  const intro =
    unique.length === 1 ? 'The configuration is not valid.' : `The configuration has ${unique.length} mistakes.`
  return new RegainError(
    'config-invalid',
    `${intro} Nothing was done.\n${unique.map((line) => `  ${line}`).join('\n')}`,
  )
}

function nodeAt(file: ParsedFile, path: Path): Node | null {
  if (path.length === 0) return file.document.contents
  const node = file.document.getIn(path, true)
  return isNode(node) ? node : null
}
