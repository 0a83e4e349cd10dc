import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRegainError } from '../../../errors.ts'
import type { RestoreTarget } from '../../contract.ts'
import { requirePlainRestore } from './point-of-files.ts'

const PLAIN = {
  directory: '/srv/restored',
  at: { kind: 'latest' },
  path: null,
  start: false,
} as unknown as RestoreTarget

test('a point of files alone is restored whole, at its own moment', () => {
  requirePlainRestore('dumps', PLAIN)
  const refused: [Partial<RestoreTarget>, code: string, message: RegExp][] = [
    [{ start: true }, 'usage', /--start does not go with dumps/],
    [{ path: 'a' }, 'usage', /--path does not go with dumps/],
    [{ at: { kind: 'lsn', lsn: '0/1' } } as unknown as RestoreTarget, 'moment-unreachable', /have no log/],
  ]
  for (const [option, code, message] of refused)
    assert.throws(
      () => requirePlainRestore('dumps', { ...PLAIN, ...option }),
      (error) => isRegainError(error, code as 'usage') && message.test(error.message),
    )
})
