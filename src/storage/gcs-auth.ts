import { readFile } from 'node:fs/promises'
import { type AuthClient, GoogleAuth, IdentityPoolClient, JWT, UserRefreshClient } from 'google-auth-library'
import { RegainError } from '../errors.ts'

/** Objects and their retention. What the account may really do is decided by its roles. */
const SCOPE = 'https://www.googleapis.com/auth/devstorage.full_control'

/** Gives an access token that is valid now; the library fetches a new one before the old one ends. */
export type GoogleToken = () => Promise<string>

/** A credentials file as far as it is looked at: of a service account, a person, or a workload known elsewhere. */
interface CredentialsFile {
  type?: string
  client_email?: string
  private_key?: string
  client_id?: string
  client_secret?: string
  refresh_token?: string
}

/**
 * Tokens for the credentials in a file, as `gcloud` and the console make them; null: where Google's libraries always
 * look (Application Default Credentials). Each call rejects with `storage-denied` if there are none that work.
 */
export function googleToken(credentialsFile: string | null): GoogleToken {
  const which =
    credentialsFile === null ? 'this machine’s default credentials' : `the credentials in ${credentialsFile}`
  let client: Promise<AuthClient> | null = null
  return async () => {
    try {
      client ??= credentialsFile === null ? defaultClient() : clientOfFile(credentialsFile)
      const { token } = await (await client).getAccessToken()
      if (token) return token
    } catch (error) {
      client = null
      // Neither message nor cause: some repeat what they could not read, and that is the private key.
      throw noToken(which, (error as { code?: unknown }).code)
    }
    throw noToken(which, undefined)
  }
}

function defaultClient(): Promise<AuthClient> {
  return new GoogleAuth({ scopes: [SCOPE] }).getClient()
}

async function clientOfFile(path: string): Promise<AuthClient> {
  const file = JSON.parse(await readFile(path, 'utf8')) as CredentialsFile
  if (file.type === 'service_account') {
    return new JWT({ email: file.client_email!, key: file.private_key!, scopes: [SCOPE] })
  }
  if (file.type === 'authorized_user') {
    return new UserRefreshClient({
      clientId: file.client_id!,
      clientSecret: file.client_secret!,
      refreshToken: file.refresh_token!,
    })
  }
  if (file.type !== 'external_account') throw Object.assign(new Error('unknown'), { code: 'unknown kind of file' })
  const client = new IdentityPoolClient(file as ConstructorParameters<typeof IdentityPoolClient>[0])
  client.scopes = [SCOPE]
  return client
}

function noToken(which: string, code: unknown): RegainError {
  const why = typeof code === 'string' || typeof code === 'number' ? ` (${code})` : ''
  return new RegainError(
    'storage-denied',
    `Google gave no access token for ${which}${why}. Nothing was sent to the store.`,
    {
      hint: 'Name a credentials file of a service account, or run: gcloud auth application-default login',
    },
  )
}
