import { resolve } from 'node:path'
import type { AwsKmsKeyConfiguration, KeyConfiguration, VaultKeyConfiguration } from './configuration.ts'
import type { WrittenConfiguration } from './schema.ts'

type WrittenKey = WrittenConfiguration['keys'][string]
type Resolved = KeyConfiguration extends infer K ? (K extends unknown ? Omit<K, 'name' | 'unresolved'> : never) : never

/** `report` hears of what the schema can't see; what is returned then is not used. */
export function resolveKey(key: WrittenKey, directory: string, report: (message: string) => void): Resolved {
  if (key.type === 'file') return { ...key, path: resolve(directory, key.path) }
  if (key.type === 'passphrase') return key
  return key.type === 'vault' ? resolveVault(key, directory, report) : resolveKms(key, report)
}

function resolveVault(
  key: Extract<WrittenKey, { type: 'vault' }>,
  directory: string,
  report: (message: string) => void,
): VaultKeyConfiguration {
  const { token, appRole, kubernetes, ca, ...rest } = key
  const logins: VaultKeyConfiguration['auth'][] = [
    ...(token === undefined ? [] : [{ method: 'token' as const, token }]),
    ...(appRole === undefined ? [] : [{ method: 'approle' as const, ...appRole }]),
    ...(kubernetes === undefined ? [] : [{ method: 'kubernetes' as const, ...kubernetes }]),
  ]
  if (logins.length !== 1) report('needs exactly one of token, appRole and kubernetes, to log in to Vault')
  const auth = logins[0] ?? { method: 'token', token: '' }
  return { ...rest, auth, ...(ca === undefined ? {} : { ca: resolve(directory, ca) }) }
}

function resolveKms(
  key: Extract<WrittenKey, { type: 'aws-kms' }>,
  report: (message: string) => void,
): AwsKmsKeyConfiguration {
  const { accessKeyId, secretAccessKey, sessionToken, ...rest } = key
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    report('accessKeyId and secretAccessKey go together: write both or neither')
  if (accessKeyId === undefined || secretAccessKey === undefined) return { ...rest, credentials: null }
  const session = sessionToken === undefined ? {} : { sessionToken }
  return { ...rest, credentials: { accessKeyId, secretAccessKey, ...session } }
}
