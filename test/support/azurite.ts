import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob'
import type { AzureLogin } from '../../src/storage/azure.ts'
import { temporaryFolder } from './repository.ts'

/** Azurite, Microsoft's emulator of Azure Blob Storage, on a free port of this machine with an account of its own. */
export interface TestAzurite {
  /** 'http://127.0.0.1:40000/account' */
  readonly endpoint: string
  readonly account: string
  readonly accountKey: string
  readonly login: AzureLogin
  readonly connectionString: string
  /** Makes a container and gives its name. */
  container(): Promise<string>
  client(): BlobServiceClient
  stop(): Promise<void>
}

const PROGRAM = fileURLToPath(new URL('../servers/node_modules/azurite/dist/src/blob/main.js', import.meta.url))

export async function startAzurite(): Promise<TestAzurite> {
  if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is missing: scripts/test installs test/servers`)
  const { path: folder, remove } = temporaryFolder()
  const account = 'regaintest'
  const accountKey = randomBytes(64).toString('base64')
  const child = spawn(
    process.execPath,
    // Its port is the system's choice. It would report its use to Microsoft, and know no API newer than itself.
    [PROGRAM, '--blobPort', '0', '--location', folder, '--silent', '--disableTelemetry', '--skipApiVersionCheck'],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, AZURITE_ACCOUNTS: `${account}:${accountKey}` },
    },
  )
  const endpoint = `${await listening(child)}/${account}`
  const client = () => new BlobServiceClient(endpoint, new StorageSharedKeyCredential(account, accountKey))
  return {
    endpoint,
    account,
    accountKey,
    client,
    login: { kind: 'account-key', account, accountKey },
    connectionString: `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${accountKey};BlobEndpoint=${endpoint};`,
    async container() {
      const name = `c${randomBytes(8).toString('hex')}`
      await client().createContainer(name)
      return name
    },
    async stop() {
      const ended = once(child, 'exit')
      child.kill()
      await ended
      remove()
    },
  }
}

async function listening(child: ChildProcess): Promise<string> {
  const said: string[] = []
  return new Promise<string>((resolve, reject) => {
    for (const stream of [child.stdout!, child.stderr!]) {
      createInterface({ input: stream }).on('line', (line) => {
        said.push(line)
        const url = /listens on (http:\/\/127\.0\.0\.1:\d+)/.exec(line)?.[1]
        if (url !== undefined) resolve(url)
      })
    }
    child.once('error', reject)
    child.once('exit', () => reject(new Error(`azurite did not start:\n${said.join('\n')}`)))
  })
}
