import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { loadConfiguration } from './load.ts'
import { shownText } from './show.ts'

/** What stands behind a name of destinations. Buckets of S3: load.test.ts. */
describe('destinations', () => {
  const folder = mkdtempSync(join(tmpdir(), 'regain-destinations-'))
  after(() => rmSync(folder, { recursive: true }))

  async function load(settings: string, environment: Record<string, string> = {}) {
    const path = join(folder, 'regain.yaml')
    writeFileSync(path, `version: 1\ndestinations:\n  hot: { ${settings} }\nkeys: {}\nservices: {}\n`)
    const config = await loadConfiguration({ path, environment: { HOME: '/of/anna', ...environment } })
    return { hot: config.destinations.hot!, shown: shownText(config.shown) }
  }

  const refuses = (settings: string, message: RegExp) => assert.rejects(load(settings), { message })

  const FINGERPRINT = `SHA256:${'a'.repeat(43)}`
  const SFTP = 'type: sftp, host: nas.example, user: regain, path: backups'

  it('sftp: one way to log in, one way to know the server', async () => {
    const key = await load(`${SFTP}, identity: id_ed25519, passphrase: "\${WORD}", hostKey: "${FINGERPRINT}"`, {
      WORD: 'swordfish',
    })
    assert.deepEqual(key.hot, {
      name: 'hot',
      type: 'sftp',
      host: 'nas.example',
      port: 22,
      user: 'regain',
      path: 'backups',
      login: { kind: 'identity', path: join(folder, 'id_ed25519'), passphrase: 'swordfish' },
      hostKey: { fingerprint: FINGERPRINT },
      limits: {},
    })
    assert.ok(!key.shown.includes('swordfish'))

    const { hot } = await load(`${SFTP}, port: 2222, agent: /run/agent, knownHosts: hosts, limits: { upload: 1MB }`)
    assert.ok(hot.type === 'sftp')
    assert.deepEqual(hot.login, { kind: 'agent', socket: '/run/agent' })
    assert.deepEqual(hot.hostKey, { knownHosts: join(folder, 'hosts') })
    assert.deepEqual(hot.limits, { uploadBytesPerSecond: 1_000_000 })

    await refuses(SFTP, /needs exactly one of identity, agent and password/)
    await refuses(`${SFTP}, agent: a, password: b`, /needs exactly one of identity, agent and password/)
    await refuses(`${SFTP}, agent: a, passphrase: b`, /passphrase belongs to identity/)
    await refuses(`${SFTP}, agent: a, hostKey: "${FINGERPRINT}", knownHosts: b`, /either hostKey or knownHosts/)
    await refuses(`${SFTP}, agent: a, hostKey: "MD5:aa:bb"`, /hostKey: is not a fingerprint/)
    await refuses(`${SFTP}, agent: a, port: 0`, /port/)
    await refuses(
      `type: sftp, host: "-oProxyCommand=x", user: a, path: b, agent: c`,
      /host: is not the name or address/,
    )
  })

  it('azure: a key, a signature or a connection string', async () => {
    const withKey = await load('type: azure, container: backups, account: acme, accountKey: "${KEY}"', {
      KEY: 'c2VjcmV0',
    })
    assert.deepEqual(withKey.hot, {
      name: 'hot',
      type: 'azure',
      container: 'backups',
      login: { kind: 'account-key', account: 'acme', accountKey: 'c2VjcmV0' },
      limits: {},
    })
    assert.ok(!withKey.shown.includes('c2VjcmV0'))
    const withSignature = await load('type: azure, container: backups, account: acme, sas: "?sv=1&sig=swordfish"')
    assert.ok(withSignature.hot.type === 'azure')
    assert.deepEqual(withSignature.hot.login, { kind: 'sas', account: 'acme', sas: 'sv=1&sig=swordfish' })
    assert.ok(!withSignature.shown.includes('swordfish'))
    writeFileSync(join(folder, 'connection'), 'AccountName=acme;AccountKey=swordfish\n')
    const whole = await load('type: azure, container: backups, prefix: a/b, connectionString: file:connection')
    assert.ok(whole.hot.type === 'azure' && whole.hot.login.kind === 'connection-string')
    assert.equal(whole.hot.login.connectionString, 'AccountName=acme;AccountKey=swordfish')
    assert.ok(!whole.shown.includes('swordfish'))
    const missing = await load('type: azure, container: backups, account: acme, accountKey: "${NO_KEY}"')
    assert.match(missing.hot.unresolved ?? '', /NO_KEY is not set/)

    await refuses('type: azure, container: backups, account: acme', /one of accountKey, sas and connectionString/)
    await refuses('type: azure, container: backups, accountKey: a', /needs account beside accountKey/)
    await refuses('type: azure, container: backups, sas: a', /needs account or endpoint beside sas/)
    await refuses('type: azure, container: b, account: a, accountKey: c', /container: is not the name/)
    await refuses('type: azure, container: abc, endpoint: "http://10.0.0.1", sas: a', /clear text/)
    await refuses('type: azure, container: abc, account: a, sas: b, immutable: 90d', /unknown setting "immutable"/)
  })

  it('gcs: credentials by file, or where Google looks', async () => {
    const { hot } = await load('type: gcs, bucket: acme-backups, prefix: regain, credentials: sa.json, immutable: 90d')
    assert.deepEqual(hot, {
      name: 'hot',
      type: 'gcs',
      bucket: 'acme-backups',
      prefix: 'regain',
      credentials: join(folder, 'sa.json'),
      immutableMs: 7_776_000_000,
      limits: {},
    })
    const { hot: plain } = await load('type: gcs, bucket: acme-backups')
    assert.ok(plain.type === 'gcs' && plain.credentials === null && plain.immutableMs === undefined)
    await refuses('type: gcs, bucket: A', /bucket: is not the name/)
  })
})
