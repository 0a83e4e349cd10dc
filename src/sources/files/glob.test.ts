import assert from 'node:assert/strict'
import { test } from 'node:test'
import { globExpression } from './glob.ts'

const cases: { glob: string; fits: string[]; not: string[] }[] = [
  { glob: '*.tmp', fits: ['a.tmp', '.tmp', 'a\n.tmp'], not: ['a.tmp.x', 'd/a.tmp', 'a_tmp'] },
  { glob: 'a?c', fits: ['abc', 'a😀c', 'a\udcffc'], not: ['ac', 'a/c', 'abbc'] },
  { glob: '**', fits: ['a', 'a/b', '.x/y'], not: [] },
  { glob: '**/x', fits: ['x', 'a/x', 'a/b/x'], not: ['ax', 'x/a', 'a/xb'] },
  { glob: 'a/**', fits: ['a/b', 'a/b/c'], not: ['a', 'ab/c'] },
  { glob: 'a/**/b', fits: ['a/b', 'a/x/b', 'a/x/y/b'], not: ['ab', 'a/xb', 'b'] },
  { glob: '**/a/**', fits: ['a/b', 'x/a/b/c'], not: ['a', 'x/a'] },
  { glob: 'a**b', fits: ['ab', 'axb'], not: ['a/b'] },
  { glob: '[a-c]x', fits: ['ax', 'cx'], not: ['dx', 'x', '-x'] },
  { glob: '[!a-c]x', fits: ['dx', '^x'], not: ['ax', '/x'] },
  { glob: '[^a]', fits: ['b'], not: ['a', '/'] },
  { glob: '[]a]', fits: [']', 'a'], not: ['b'] },
  { glob: '[a^\\[]', fits: ['a', '^', '\\', '['], not: ['b'] },
  { glob: '[ab', fits: ['[ab'], not: ['a'] },
  { glob: '[z-a]', fits: ['[z-a]'], not: ['z'] },
  { glob: '[!/]', fits: ['a'], not: ['/'] },
  { glob: '\\*', fits: ['*'], not: ['a'] },
  { glob: '\\😀', fits: ['😀'], not: ['\\'] },
  { glob: 'x\\', fits: ['x\\'], not: ['x'] },
  { glob: 'a.b+c(d)|{e}$^', fits: ['a.b+c(d)|{e}$^'], not: ['aXb+c(d)|{e}$^', '{e}$^'] },
  { glob: 'é', fits: ['é'], not: ['e'] },
]

for (const { glob, fits, not } of cases) {
  test(`glob ${JSON.stringify(glob)}`, () => {
    const expression = globExpression(glob)
    for (const path of fits) assert.ok(expression.test(path), `should fit ${JSON.stringify(path)}`)
    for (const path of not) assert.ok(!expression.test(path), `should not fit ${JSON.stringify(path)}`)
  })
}
