import { RegainError } from '../../../errors.ts'

/** [SCHEMA.]TABLE as a person wrote it. */
export interface WrittenName {
  schema: NamePart | null
  name: NamePart
}

/** In double quotes as SQL has it: exactly this; otherwise also as SQL would fold it. */
export interface NamePart {
  text: string
  quoted: boolean
}

/** Reads `orders`, `sales.orders`, `"odd.name"`. Rejects with `usage`. */
export function parseName(written: string): WrittenName {
  const parts = [...written.matchAll(/(?:^|\.)(?:"((?:[^"]|"")+)"|([^".]+))/gy)]
  const length = parts.reduce((sum, [text]) => sum + text.length, 0)
  const [first, second] = parts.map(
    ([, quoted, plain]): NamePart =>
      quoted === undefined
        ? { text: plain ?? '', quoted: false }
        : { text: quoted.replaceAll('""', '"'), quoted: true },
  )
  if (!first || parts.length > 2 || length !== written.length || written.startsWith('.')) {
    throw new RegainError('usage', `"${written}" is not the name of a table. Nothing was done.`, {
      hint: 'Write TABLE or SCHEMA.TABLE; a name that holds a dot in double quotes: \'"odd.name"\'.',
    })
  }
  return second ? { schema: first, name: second } : { schema: null, name: first }
}

/** The ways to read it: as it is written, then as SQL folds it. */
export function readings({ text, quoted }: NamePart): string[] {
  return quoted || text === text.toLowerCase() ? [text] : [text, text.toLowerCase()]
}

const SHOWN = 8

/** '; near it: a, b' or what there is: the names that resemble `wanted` most, of those that there are. */
export function nearNames(wanted: string, names: readonly string[]): string {
  if (names.length === 0) return 'there is none'
  const word = wanted.toLowerCase()
  const ranked = names
    .map((name) => ({ name, distance: distanceTo(word, name.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1))
  const near = ranked.filter(({ distance }) => distance <= Math.max(2, Math.floor(word.length / 2)))
  const shown = (near.length > 0 ? near : ranked).slice(0, SHOWN).map(({ name }) => name)
  const more = near.length === 0 && names.length > SHOWN ? `, and ${names.length - SHOWN} more` : ''
  return `${near.length > 0 ? 'near it' : 'there'} ${shown.length === 1 ? 'is' : 'are'} ${shown.join(', ')}${more}`
}

/** One name within the other counts as near; otherwise edits, also to the part behind the schema. */
function distanceTo(word: string, name: string): number {
  const bare = name.slice(name.indexOf('.') + 1)
  if (word.length > 2 && bare.length > 2 && (bare.includes(word) || word.includes(bare))) return 1
  return Math.min(edits(word, name), edits(word, bare))
}

function edits(a: string, b: string): number {
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++)
      row.push(Math.min(row[j - 1]! + 1, last[j]! + 1, last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    last = row
  }
  return last[b.length]!
}
