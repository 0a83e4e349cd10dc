import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConnectionUrl } from '../protocol/connection-url.ts'
import { Client, clientEnvironment } from './client-programs.ts'

test('what a URL says goes to clients by their environment, before what that held', () => {
  const config = parseConnectionUrl('postgres://me:secret@db:5433/shop?sslmode=verify-full&sslrootcert=/ca')
  const environment = clientEnvironment(config, { PGPASSWORD: 'other', EDITOR: 'inherited' })
  assert.equal(environment.PGPASSWORD, 'secret')
  assert.equal(environment.EDITOR, 'inherited')
  assert.equal(environment.PGSSLMODE, 'verify-full')
  assert.equal(environment.PGSSLROOTCERT, '/ca')
  assert.equal(environment.PGPORT, '5433')
})

test('a client that fails says why; one that is interrupted ends', async (t) => {
  const shell = { directory: '/bin', version: '1' }
  const failing = new Client(shell, 'sh', ['-c', 'echo it is so >&2; exit 3'], {}, t.signal)
  failing.discardOutput()
  await assert.rejects(failing.ended(), { code: 'precondition-failed', message: 'sh failed: it is so' })
  const controller = new AbortController()
  const waiting = new Client(shell, 'sh', ['-c', 'echo ready; exec sleep 1000'], {}, controller.signal)
  for await (const line of waiting.lines()) {
    assert.equal(line, 'ready')
    controller.abort()
  }
  await assert.rejects(waiting.ended(), { code: 'interrupted' })
})
