import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { after, before, describe, it } from 'node:test'
import {
  AccountSASPermissions,
  AccountSASResourceTypes,
  AccountSASServices,
  generateAccountSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob'
import { RegainError } from '../../src/errors.ts'
import { type AzureLogin, openAzureStorage } from '../../src/storage/azure.ts'
import { startAzurite, type TestAzurite } from '../support/azurite.ts'
import { listed, rejectsWith } from './storage.ts'

/** Logins, refusals and silence of the service. What every store promises is in storage-azure.test.ts. */
describe('azure storage and its service', () => {
  let azurite: TestAzurite
  let container: string
  before(async () => {
    azurite = await startAzurite()
    container = await azurite.container()
  })
  after(() => azurite.stop())

  const open = (login: AzureLogin, place: { endpoint?: string; container?: string } = {}) =>
    openAzureStorage({ container, prefix: 'shop/', endpoint: azurite.endpoint, login, ...place })

  it('logs in by key, connection string or signature', async () => {
    const { account, accountKey, connectionString, login } = azurite
    const sas = generateAccountSASQueryParameters(
      {
        permissions: AccountSASPermissions.parse('rwdlac'),
        services: AccountSASServices.parse('b').toString(),
        resourceTypes: AccountSASResourceTypes.parse('co').toString(),
        expiresOn: new Date(Date.now() + 3_600_000),
      },
      new StorageSharedKeyCredential(account, accountKey),
    ).toString()
    for (const way of [login, { kind: 'connection-string', connectionString }, { kind: 'sas', sas }] as const) {
      const storage = await open(way)
      await storage.put(`by/${way.kind}`, Buffer.from('x'))
      assert.equal(await storage.create(`by/${way.kind}`, Buffer.from('y')), false)
      assert.equal((await listed(storage)).length > 0, true)
      await storage.delete(`by/${way.kind}`)
      assert.ok(!storage.description.includes(accountKey))
      await storage.close()
    }
  })

  it('never tells the secret it was refused with, and sends nothing in clear text', async () => {
    const secret = Buffer.from('swordfish swordfish swordfish').toString('base64')
    const attempts: [() => Promise<unknown>, string][] = [
      [() => open({ kind: 'account-key', account: azurite.account, accountKey: secret }), 'storage-denied'],
      [() => open({ kind: 'sas', sas: `sv=2020-10-02&sig=${secret}` }), 'storage-denied'],
      [() => open({ kind: 'connection-string', connectionString: `AccountKey=${secret}` }), 'config-invalid'],
      [() => open(azurite.login, { endpoint: 'http://192.0.2.1/account' }), 'config-invalid'],
      [() => open(azurite.login, { endpoint: 'http://127.0.0.1:1/account' }), 'storage-unavailable'],
      [() => open(azurite.login, { container: 'none' }), 'storage-not-found'],
    ]
    for (const [attempt, code] of attempts) {
      await assert.rejects(attempt(), (error) => {
        assert.ok(error instanceof RegainError, String(error))
        assert.equal(error.code, code, error.message)
        const told = `${error.message} ${error.hint} ${JSON.stringify(error.cause)} ${(error.cause as Error)?.stack}`
        for (const word of [secret, azurite.accountKey]) assert.ok(!told.includes(word), told)
        return true
      })
    }
  })

  it('tells a container that is gone from an object that is not there', async () => {
    const passing = await azurite.container()
    const storage = await open(azurite.login, { container: passing })
    assert.equal(await storage.size('a'), null)
    await azurite.client().getContainerClient(passing).delete()
    await rejectsWith('storage-unavailable', storage.get('a'))
    await rejectsWith('storage-unavailable', storage.size('a'))
    await rejectsWith('storage-unavailable', storage.put('a', Buffer.from('x')))
    await rejectsWith('storage-unavailable', storage.delete('a'))
    await rejectsWith('storage-unavailable', listed(storage))
  })

  it('asks once, and ends when the signal fires though the server is silent', async () => {
    let requests = 0
    let mode: 'busy' | 'open' | 'cut' | 'silent' = 'busy'
    const server = createServer((near, answer) => {
      requests++
      if (mode === 'busy') answer.writeHead(503, { 'x-ms-error-code': 'ServerBusy' }).end()
      if (mode === 'busy' || mode === 'silent') return
      const far = request(new URL(near.url!, azurite.endpoint), { method: near.method, headers: near.headers })
      far.once('response', (from) => {
        answer.writeHead(from.statusCode!, from.headers)
        if (mode === 'open') from.pipe(answer)
        else from.once('data', (chunk) => answer.write(chunk, () => answer.destroy()))
      })
      near.pipe(far)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const endpoint = `http://127.0.0.1:${(server.address() as { port: number }).port}/${azurite.account}`
    try {
      await rejectsWith('storage-unavailable', open(azurite.login, { endpoint }))
      assert.equal(requests, 1, 'nothing is retried here')
      mode = 'open'
      const storage = await open(azurite.login, { endpoint })
      await storage.put('large', Buffer.alloc(3_000_000))
      mode = 'cut'
      await rejectsWith('storage-unavailable', storage.get('large'))
      mode = 'silent'
      for (const call of ['get', 'size', 'delete', 'put', 'create'] as const) {
        const controller = new AbortController()
        server.once('request', () => controller.abort())
        const options = { signal: controller.signal }
        const called =
          call === 'put' || call === 'create'
            ? storage[call]('a', Buffer.from('x'), options)
            : call === 'get'
              ? storage.get('a', undefined, options)
              : storage[call]('a', options)
        await rejectsWith('interrupted', called)
      }
    } finally {
      server.close()
      server.closeAllConnections()
    }
  })
})
