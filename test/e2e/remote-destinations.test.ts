import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { startAzurite, type TestAzurite } from '../support/azurite.ts'
import { jsonLines, LAUNCHER, runCommand } from '../support/command.ts'
import { assertSameTree, readTree, someBytes, writeTree } from '../support/repository.ts'
import { startSshd, type TestSshd } from '../support/sshd.ts'

/** A folder to a store over the network and back, by the command line as a person uses it. */
describe('a folder at a remote destination', () => {
  let folder: string
  let sshd: TestSshd
  let azurite: TestAzurite

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'regain-remote-'))
    writeTree(join(folder, 'data'), {
      'empty/': '',
      'a/small': 'small',
      'a/link': { link: 'small' },
      large: someBytes('large', 9_000_000),
      'other/nothing': '',
    })
    ;[sshd, azurite] = await Promise.all([startSshd(), startAzurite()])
  })
  after(async () => {
    await Promise.all([sshd?.stop(), azurite?.stop()])
    rmSync(folder, { recursive: true })
  })

  it('sftp', async () => {
    const { port, user, home, identity, fingerprint } = sshd
    await comesBack('sftp', {
      destination: `{ type: sftp, host: 127.0.0.1, port: ${port}, user: ${user}, path: "${home}/backups", identity: "${identity}" } # ours`,
    })
    // The key was not known before: init has shown and written it, and nothing else was changed.
    const written = readFileSync(join(folder, 'sftp', 'regain.yaml'), 'utf8')
    assert.ok(written.includes(`identity: "${identity}", hostKey: "${fingerprint}" } # ours\n`), written)
  })

  it('azure', async () => {
    const container = await azurite.container()
    await comesBack('azure', {
      destination: `{ type: azure, container: ${container}, prefix: regain, connectionString: "\${AZURE}" }`,
      environment: { AZURE: azurite.connectionString },
      secret: azurite.accountKey,
    })
  })

  async function comesBack(
    name: string,
    setUp: { destination: string; environment?: Record<string, string>; secret?: string },
  ): Promise<void> {
    const cwd = join(folder, name)
    mkdirSync(cwd)
    writeFileSync(
      join(cwd, 'regain.yaml'),
      `version: 1
destinations:
  away: ${setUp.destination}
keys:
  main: { type: file, path: main.key }
services:
  shop:
    retention: keep-all
    sources:
      files: { type: files, paths: ["${join(folder, 'data')}"] }
`,
    )
    const regain = async (...args: string[]) => {
      const { PATH = '' } = process.env
      const env = { PATH, HOME: cwd, LANG: 'C.UTF-8', ...setUp.environment }
      const { status, stdout, stderr } = await runCommand(LAUNCHER, [...args, '--json'], { cwd, env })
      assert.equal(status, 0, `${args[0]}: ${stdout}${stderr}`)
      if (setUp.secret) assert.ok(!`${stdout}${stderr}`.includes(setUp.secret))
      return jsonLines(stdout).at(-1)!
    }
    await regain('init', '--yes')
    await regain('check')
    await regain('backup', 'shop')
    const again = await regain('backup', 'shop')
    assert.equal((again.bytes as { new: number }).new, 0)
    const verified = await regain('verify', 'shop', '--read-data')
    assert.deepEqual(verified.problems, [])
    await regain('restore', 'shop/files', '--to', join(cwd, 'back'))
    assertSameTree(readTree(join(cwd, 'back')), readTree(join(folder, 'data')))
  }
})
