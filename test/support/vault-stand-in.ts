import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * A stand-in for HashiCorp Vault, which can't be installed here: the transit engine's encrypt and decrypt and two kinds of
 * login, over HTTP, with the statuses, words and forms that Vault's API documentation and source (sdk/helper/keysutil)
 * give. It shows that the driver speaks as documented, not that a real Vault agrees.
 */
export interface VaultStandIn {
  address: string
  /** Accepted by X-Vault-Token. */
  token: string
  namespace: string | null
  /** Tokens that logins gave are void from now on. */
  expireLogins(): void
  sealed: boolean
  /** 'POST transit/encrypt/main' */
  readonly calls: string[]
  close(): Promise<void>
}

const LOGINS: Record<string, (body: Record<string, string>) => boolean> = {
  'auth/approle/login': ({ role_id, secret_id }) => role_id === 'backup' && secret_id === 'swordfish',
  'auth/kubernetes/login': ({ role, jwt }) => role === 'regain' && jwt === 'pod-token',
}

export async function startVaultStandIn(): Promise<VaultStandIn> {
  const secret = randomBytes(32)
  const logins = new Set<string>()
  const calls: string[] = []
  const keyOf = (name: string) => createHmac('sha256', secret).update(name).digest()
  const server = createServer((request, response) => {
    void answer(request).then(([status, body]) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    })
  })

  async function answer(request: IncomingMessage): Promise<[number, object]> {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece as Buffer)
    const path = (request.url ?? '').replace('/v1/', '')
    calls.push(`${request.method} ${path}`)
    if (standIn.sealed) return [503, { errors: ['Vault is sealed'] }]
    const body = JSON.parse(Buffer.concat(pieces).toString()) as Record<string, string>
    const login = LOGINS[path]
    if (login) {
      if (!login(body)) return [400, { errors: ['invalid role or secret ID'] }]
      const token = randomBytes(8).toString('hex')
      logins.add(token)
      return [200, { auth: { client_token: token, lease_duration: 3600 } }]
    }
    const given = String(request.headers['x-vault-token'])
    if (given !== standIn.token && !logins.has(given)) return [403, { errors: ['permission denied'] }]
    if ((request.headers['x-vault-namespace'] ?? null) !== standIn.namespace)
      return [403, { errors: ['permission denied'] }]
    const [, operation, name] = /^transit\/(encrypt|decrypt)\/([\w-]+)$/.exec(path) ?? []
    if (!operation || !name) return [404, { errors: [`no handler for route "${path}". route entry not found.`] }]
    return operation === 'encrypt' ? encrypt(name, body) : decrypt(name, body)
  }

  function encrypt(name: string, body: Record<string, string>): [number, object] {
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', keyOf(name), nonce)
    cipher.setAAD(Buffer.from(body.associated_data ?? '', 'base64'))
    const sealed = Buffer.concat([
      nonce,
      cipher.update(Buffer.from(body.plaintext ?? '', 'base64')),
      cipher.final(),
      cipher.getAuthTag(),
    ])
    return [200, { data: { ciphertext: `vault:v1:${sealed.toString('base64')}`, key_version: 1 } }]
  }

  function decrypt(name: string, body: Record<string, string>): [number, object] {
    const refused = (why: string): [number, object] => [400, { errors: [`invalid ciphertext: ${why}`] }]
    const match = /^vault:v1:([A-Za-z0-9+/=]*)$/.exec(body.ciphertext ?? '')
    if (!match) return refused('no prefix')
    const sealed = Buffer.from(match[1] as string, 'base64')
    if (sealed.length < 28) return refused('too short')
    const decipher = createDecipheriv('aes-256-gcm', keyOf(name), sealed.subarray(0, 12))
    decipher.setAAD(Buffer.from(body.associated_data ?? '', 'base64'))
    decipher.setAuthTag(sealed.subarray(-16))
    try {
      const plain = Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()])
      return [200, { data: { plaintext: plain.toString('base64') } }]
    } catch {
      return refused('unable to decrypt')
    }
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const standIn: VaultStandIn = {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token: 'root-token',
    namespace: null,
    sealed: false,
    calls,
    expireLogins: () => logins.clear(),
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
  return standIn
}
