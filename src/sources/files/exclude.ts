import { RegainError } from '../../errors.ts'
import type { EntryPath } from '../../model.ts'
import { globExpression } from './glob.ts'

interface Rule {
  expression: RegExp
  /** False: the pattern is about a name anywhere; true: about the path from the root. */
  wholePath: boolean
  directoriesOnly: boolean
  /** False for patterns that begin with `!`: what they match is kept after all. */
  excludes: boolean
}

/**
 * What to leave out, by patterns as in .gitignore: without a slash a pattern matches a name anywhere (`*.tmp`), with one
 * the path from the root (`cache/*.bin`, `/cache`); a slash at the end means folders only; `**` is any number of folders;
 * `!` takes something back in. The last pattern that matches decides. A folder left out takes all below it with it: what
 * it holds is never looked at, so `!` cannot take that back in.
 */
export class Excludes {
  readonly #rules: Rule[]
  readonly isEmpty: boolean
  /** Whether an answer can depend on `isDirectory`. */
  readonly needsType: boolean

  /** `root` is the absolute path of the source's root: patterns that begin with it are taken as relative to it. */
  constructor(patterns: readonly string[], root: string) {
    this.#rules = patterns.map((pattern) => toRule(pattern, root))
    this.isEmpty = this.#rules.length === 0
    this.needsType = this.#rules.some((rule) => rule.directoriesOnly)
  }

  excludes(path: EntryPath, name: string, isDirectory: boolean): boolean {
    for (let i = this.#rules.length - 1; i >= 0; i--) {
      const rule = this.#rules[i] as Rule
      if (rule.directoriesOnly && !isDirectory) continue
      if (rule.expression.test(rule.wholePath ? path : name)) return rule.excludes
    }
    return false
  }
}

function toRule(pattern: string, root: string): Rule {
  const excludes = !pattern.startsWith('!')
  let glob = excludes ? pattern : pattern.slice(1)
  if (glob.startsWith(root === '/' ? '/' : `${root}/`)) glob = glob.slice(root === '/' ? 0 : root.length)
  const directoriesOnly = glob.endsWith('/')
  glob = glob.replace(/\/+$/, '')
  const wholePath = glob.includes('/')
  glob = glob.replace(/^\/+/, '')
  if (glob === '') {
    throw new RegainError('config-invalid', `The exclude pattern "${pattern}" names nothing.`, {
      hint: 'Write a name (*.tmp), a path from the root (cache/old), or take the pattern out.',
    })
  }
  return { expression: globExpression(glob), wholePath, directoriesOnly, excludes }
}
