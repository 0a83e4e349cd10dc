/**
 * Globs over entry paths, in the words of gitignore: `*` and `?` stop at slashes, `**` between slashes is any number of
 * folders, `[a-z]` and `[!a-z]` are sets, `\` takes the next character as it is.
 */

/** A regular expression's source that matches the whole of what the glob describes (no anchors in it). */
export function globSource(glob: string): string {
  let source = ''
  let at = 0
  while (at < glob.length) {
    const folders = foldersAt(glob, at)
    if (folders !== null) {
      source += folders.source
      at += folders.length
      continue
    }
    const [piece, length] = pieceAt(glob, at)
    source += piece
    at += length
  }
  return source
}

/** For whole paths. Unicode mode: `?` takes an emoji whole, and an escaped byte (a lone surrogate) too. */
export function globExpression(glob: string): RegExp {
  return new RegExp(`^(?:${globSource(glob)})$`, 'su')
}

/** A `**` that stands alone between slashes or ends, with the slashes it makes optional. */
function foldersAt(glob: string, at: number): { source: string; length: number } | null {
  const starts = at === 0
  if (starts && glob === '**') return { source: '.*', length: 2 }
  if (starts && glob.startsWith('**/')) return { source: '(?:[^/]+/)*', length: 3 }
  if (glob.startsWith('/**/', at)) return { source: '/(?:[^/]+/)*', length: 4 }
  // `folder/**` is what the folder holds, not the folder itself.
  if (glob.startsWith('/**', at) && at + 3 === glob.length) return { source: '/.+', length: 3 }
  return null
}

function pieceAt(glob: string, at: number): [source: string, length: number] {
  const character = String.fromCodePoint(glob.codePointAt(at) as number)
  switch (character) {
    case '*': {
      const stars = /^\*+/.exec(glob.slice(at))?.[0].length ?? 1
      return ['[^/]*', stars]
    }
    case '?':
      return ['[^/]', 1]
    case '[':
      return setAt(glob, at) ?? ['\\[', 1]
    case '\\': {
      const next = glob.codePointAt(at + 1)
      if (next === undefined) return ['\\\\', 1]
      const literal = String.fromCodePoint(next)
      return [escapeLiteral(literal), 1 + literal.length]
    }
    default:
      return [escapeLiteral(character), character.length]
  }
}

/** `[...]`, or null if it is never closed: then the bracket is an ordinary character. */
function setAt(glob: string, at: number): [source: string, length: number] | null {
  const negated = glob[at + 1] === '!' || glob[at + 1] === '^'
  const from = at + (negated ? 2 : 1)
  // A closing bracket in first place belongs to the set.
  const end = glob.indexOf(']', from + 1)
  if (end === -1) return null
  const members = glob.slice(from, end).replace(/[\\[\]^]/g, (member) => `\\${member}`)
  const source = `(?!/)[${negated ? '^' : ''}${members}]`
  return isValid(source) ? [source, end + 1 - at] : null
}

function isValid(source: string): boolean {
  try {
    new RegExp(source, 'su')
    return true
  } catch {
    // A range the wrong way round, such as [z-a].
    return false
  }
}

function escapeLiteral(character: string): string {
  return /[\\^$.*+?()[\]{}|/]/.test(character) ? `\\${character}` : character
}
