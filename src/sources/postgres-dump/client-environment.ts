import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RegainError } from '../../errors.ts'
import { clientEnvironment } from '../postgres/parts/client-programs.ts'
import type { ConnectionConfig } from '../postgres/protocol/connection-url.ts'

export interface ClientContext {
  /** What clients may take from our own environment: passwords, where they are kept. */
  environment: Readonly<Record<string, string>>
  /** The PATH variable, should a program be a script. */
  path: string
}

/**
 * Environment of client programs while `use` runs. The password is in a file that only we can read, in a folder that only we
 * can enter, both gone afterwards: neither in arguments nor in an environment, which others may list.
 */
export async function withClientEnvironment<T>(
  config: ConnectionConfig,
  { environment, path }: ClientContext,
  use: (environment: Record<string, string>) => Promise<T>,
): Promise<T> {
  const { password, ...rest } = config
  const common = clientEnvironment(rest, { ...environment, PATH: path })
  if (password === undefined) return use(common)
  if (/[\r\n]/.test(password)) {
    throw new RegainError(
      'config-invalid',
      'The password in the PostgreSQL URL holds a line break, which no password file of PostgreSQL can hold.',
      { hint: 'Give the role another password.' },
    )
  }
  const folder = await mkdtemp(join(tmpdir(), 'regain-client-'))
  try {
    const file = join(folder, 'pgpass')
    const escaped = password.replace(/[\\:]/g, (character) => `\\${character}`)
    await writeFile(file, `*:*:*:*:${escaped}\n`, { mode: 0o600, flag: 'wx' })
    // One that is inherited would win over the file.
    const { PGPASSWORD: _, ...others } = common
    return await use({ ...others, PGPASSFILE: file })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
