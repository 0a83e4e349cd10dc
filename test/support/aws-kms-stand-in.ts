import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

/**
 * A stand-in for AWS KMS, which is not to be had here: Encrypt and Decrypt of a symmetric key in the JSON protocol that
 * the real SDK speaks, with the exceptions that KMS documents. Signatures are not checked. It shows that the driver and
 * the SDK speak as documented, not that AWS agrees.
 */
export interface AwsKmsStandIn {
  endpoint: string
  /** The name of the exception that every call is answered with; null: they work. */
  failure: string | null
  close(): Promise<void>
}

type Call = { KeyId: string; Plaintext?: string; CiphertextBlob?: string; EncryptionContext?: Record<string, string> }

export async function startAwsKmsStandIn(): Promise<AwsKmsStandIn> {
  const secret = randomBytes(32)
  const arn = (key: string) => `arn:aws:kms:eu-central-1:111122223333:${key}`
  const keyOf = (key: string) => createHmac('sha256', secret).update(key).digest()
  const context = (call: Call) => Buffer.from(JSON.stringify(Object.entries(call.EncryptionContext ?? {}).sort()))
  const server = createServer((request, response) => {
    void answer(request).then(([status, body]) => {
      response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' }).end(JSON.stringify(body))
    })
  })

  async function answer(request: IncomingMessage): Promise<[number, object]> {
    const pieces: Buffer[] = []
    for await (const piece of request) pieces.push(piece as Buffer)
    if (standIn.failure !== null) return [400, { __type: standIn.failure, message: 'as the test wants it' }]
    const call = JSON.parse(Buffer.concat(pieces).toString()) as Call
    switch (request.headers['x-amz-target']) {
      case 'TrentService.Encrypt':
        return encrypt(call)
      case 'TrentService.Decrypt':
        return decrypt(call)
      default:
        return [400, { __type: 'UnknownOperationException' }]
    }
  }

  /** The blob names its key, as the real one does. */
  function encrypt(call: Call): [number, object] {
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', keyOf(call.KeyId), nonce)
    cipher.setAAD(context(call))
    const sealed = Buffer.concat([cipher.update(Buffer.from(call.Plaintext ?? '', 'base64')), cipher.final()])
    const name = Buffer.from(call.KeyId.padEnd(64))
    const blob = Buffer.concat([name, nonce, sealed, cipher.getAuthTag()])
    return [200, { CiphertextBlob: blob.toString('base64'), KeyId: arn(call.KeyId) }]
  }

  function decrypt(call: Call): [number, object] {
    const blob = Buffer.from(call.CiphertextBlob ?? '', 'base64')
    if (blob.length < 64 + 28) return [400, { __type: 'InvalidCiphertextException' }]
    const name = blob.toString('utf8', 0, 64).trimEnd()
    if (/^alias\/\w+$/.test(name) && name !== call.KeyId) return [400, { __type: 'IncorrectKeyException' }]
    const decipher = createDecipheriv('aes-256-gcm', keyOf(name), blob.subarray(64, 76))
    decipher.setAAD(context(call))
    decipher.setAuthTag(blob.subarray(-16))
    try {
      const plain = Buffer.concat([decipher.update(blob.subarray(76, -16)), decipher.final()])
      return [200, { Plaintext: plain.toString('base64'), KeyId: arn(name) }]
    } catch {
      return [400, { __type: 'InvalidCiphertextException' }]
    }
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const standIn: AwsKmsStandIn = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    failure: null,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
  return standIn
}
