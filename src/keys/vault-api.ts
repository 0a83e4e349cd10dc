import { readFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { requireSafeAddress, unavailable } from './service-kek.ts'

/** The few calls of HashiCorp Vault's HTTP API that are needed, as its documentation gives them (api-docs, transit and auth). */
export interface VaultAddress {
  /** https, or http to this machine itself. */
  address: string
  namespace?: string
  /** PEM file of the authority that signed the server's certificate. */
  ca?: string
  auth: VaultAuth
}

export type VaultAuth =
  | { method: 'token'; token: string }
  | { method: 'approle'; roleId: string; secretId: string; mount: string }
  /** `tokenPath`: of the pod's service account, which Kubernetes renews. */
  | { method: 'kubernetes'; role: string; mount: string; tokenPath: string }

export interface VaultAnswer {
  status: number
  data: Record<string, unknown>
  /** Vault's own words; they never hold a secret. */
  errors: string[]
}

const TIMEOUT_MS = 15_000
const MAX_ANSWER_BYTES = 1024 * 1024
const DENIED = 403

/** Logs in when first needed, and once more when a call is denied: tokens of a login expire. */
export class VaultApi {
  readonly description: string
  readonly #options: VaultAddress
  readonly #base: URL
  #token: string | null

  constructor(options: VaultAddress, description: string) {
    this.description = description
    this.#options = options
    this.#base = requireSafeAddress(options.address, description)
    this.#token = options.auth.method === 'token' ? options.auth.token : null
  }

  /** Resolves with whatever Vault answered below 500; rejects with `key-unavailable` where it could not. */
  async write(path: string, body: Record<string, unknown>): Promise<VaultAnswer> {
    const isFresh = this.#token === null
    this.#token ??= await this.#logIn()
    const answer = await this.#send(path, body, this.#token)
    if (answer.status !== DENIED || isFresh || this.#options.auth.method === 'token') return answer
    this.#token = await this.#logIn()
    return this.#send(path, body, this.#token)
  }

  async #logIn(): Promise<string> {
    const { auth } = this.#options
    if (auth.method === 'token') return auth.token
    const body =
      auth.method === 'approle'
        ? { role_id: auth.roleId, secret_id: auth.secretId }
        : { role: auth.role, jwt: await this.#serviceAccount(auth.tokenPath) }
    const { status, data, errors } = await this.#send(`auth/${auth.mount}/login`, body, null)
    const token = (data.auth as { client_token?: unknown } | undefined)?.client_token
    if (status === 200 && typeof token === 'string') return token
    throw unavailable(this.description, `refuses the login by ${auth.method} (${status}: ${errors.join('; ')})`)
  }

  async #serviceAccount(path: string): Promise<string> {
    try {
      return (await readFile(path, 'utf8')).trim()
    } catch (error) {
      throw unavailable(this.description, `can't be used: the token ${path} of this pod can't be read`, error)
    }
  }

  async #send(path: string, body: Record<string, unknown>, token: string | null): Promise<VaultAnswer> {
    const { namespace, ca } = this.#options
    let authority: Buffer | undefined
    try {
      if (ca !== undefined) authority = await readFile(ca)
    } catch (error) {
      throw unavailable(this.description, `can't be trusted: the certificate file ${ca} can't be read`, error)
    }
    const headers = {
      'content-type': 'application/json',
      'x-vault-request': 'true',
      ...(token === null ? {} : { 'x-vault-token': token }),
      ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }),
    }
    const url = new URL(`${this.#base.pathname.replace(/\/$/, '')}/v1/${path}`, this.#base)
    const { status, text } = await this.#post(url, headers, JSON.stringify(body), authority)
    // 503: sealed, or a standby that does not forward; 429: too many requests. A redirect would carry the token elsewhere.
    if (status >= 500 || status === 429 || (status >= 300 && status < 400))
      throw unavailable(this.description, `can't be used now (status ${status})`)
    return { status, ...parse(text) }
  }

  #post(
    url: URL,
    headers: Record<string, string>,
    body: string,
    ca: Buffer | undefined,
  ): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const fail = (error: unknown) =>
        reject(unavailable(this.description, `does not answer (${reasonOf(error)})`, error))
      const options = {
        method: 'POST',
        headers,
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...(ca === undefined ? {} : { ca }),
      }
      const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options, (response) => {
        const pieces: Buffer[] = []
        let bytes = 0
        response.on('data', (piece: Buffer) => {
          bytes += piece.length
          if (bytes > MAX_ANSWER_BYTES) response.destroy(new Error('an answer far too large'))
          else pieces.push(piece)
        })
        response.once('error', fail)
        response.once('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(pieces).toString() }),
        )
      })
      request.once('error', fail)
      request.end(body)
    })
  }
}

function parse(text: string): Pick<VaultAnswer, 'data' | 'errors'> {
  try {
    const answer = JSON.parse(text) as { errors?: unknown; data?: Record<string, unknown>; auth?: unknown }
    const errors = Array.isArray(answer.errors) ? answer.errors.map((error) => String(error).slice(0, 200)) : []
    return { data: { ...answer.data, auth: answer.auth }, errors }
  } catch {
    // No Vault speaks like that; the status, which the caller looks at, says more.
    return { data: {}, errors: ['an answer that is not of Vault'] }
  }
}

function reasonOf(error: unknown): string {
  const { code, name, message } = error as NodeJS.ErrnoException
  return name === 'TimeoutError' || name === 'AbortError' ? `nothing for ${TIMEOUT_MS / 1000} s` : (code ?? message)
}
