import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { isRegainError, type RegainError } from '../errors.ts'
import type { Configuration, KeyConfiguration } from './configuration.ts'
import { loadConfiguration } from './load.ts'
import { shownText } from './show.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'regain-config-'))
})
after(() => rm(folder, { recursive: true }))

const ENVIRONMENT = { HOME: '/of/anna', SHOP_URL: 'postgres://regain:hunter2@db/shop', EMPTY: '' }

async function load(text: string, environment: Record<string, string> = ENVIRONMENT): Promise<Configuration> {
  const path = join(folder, 'regain.yaml')
  await writeFile(path, text)
  return loadConfiguration({ path, environment })
}

function localPath({ destinations: { hot } }: Configuration): string | null {
  return hot?.type === 'local' ? hot.path : null
}

/** The lines of the error, each a mistake with its place. */
async function mistakes(text: string): Promise<string[]> {
  const error = await load(text).then(
    () => assert.fail('the configuration was accepted'),
    (reason: unknown) => reason,
  )
  assert.ok(isRegainError(error, 'config-invalid'), String(error))
  return (error as RegainError).message
    .split('\n')
    .slice(1)
    .map((line) => line.trim())
}

const BASE = `version: 1
destinations:
  hot: { type: local, path: backups }
keys:
  main: { type: file, path: main.key }
services:
  shop:
    sources:
      db: { type: postgres, url: "\${SHOP_URL}" }
`

test('a small configuration: paths absolute, defaults filled in, references resolved', async () => {
  const config = await load(BASE)
  assert.equal(localPath(config), join(folder, 'backups'))
  assert.equal(config.state, '/of/anna/.local/state/regain')
  const shop = config.services.shop!
  assert.equal(shop.key, 'main')
  assert.deepEqual(shop.destinations, ['hot'])
  assert.deepEqual(shop.schedule, { full: undefined, incremental: undefined, prune: '30 4 * * *', timezone: 'UTC' })
  assert.deepEqual(shop.retention, {})
  assert.deepEqual(shop.sources.db, {
    name: 'db',
    place: 'regain.yaml:9:7',
    type: 'postgres',
    url: ENVIRONMENT.SHOP_URL,
    log: 'continuous',
    fingerprint: true,
    tailMs: 3000,
    slotLimit: 'auto',
  })
})

test('the state directory follows XDG_STATE_HOME', async () => {
  const config = await load(BASE, { ...ENVIRONMENT, XDG_STATE_HOME: '/var/state' })
  assert.equal(config.state, '/var/state/regain')
})

const MISTAKES: [title: string, text: string, expected: string[]][] = [
  ['an empty file', '', ['regain.yaml:1:1: must be settings (name: value), not nothing']],
  [
    'not YAML',
    'version: 1\nkeys: {\n',
    ['regain.yaml:3:1: not valid YAML: Flow map in block collection must be sufficiently indented and end with a }'],
  ],
  ['the same key twice', `${BASE}version: 1\n`, ['regain.yaml:10:1: not valid YAML: Map keys must be unique']],
  ['another version', BASE.replace('version: 1', 'version: 2'), ['regain.yaml:1:10: version: must be 1, not 2']],
  [
    'misspelt settings at three levels',
    BASE.replace('destinations:', 'destinatons:')
      .replace('sources:', 'owners: a\n    sources:')
      .replace('url:', 'ulr:'),
    [
      'regain.yaml:1:1: destinations: is missing',
      'regain.yaml:2:1: unknown setting "destinatons"; did you mean "destinations"?',
      'regain.yaml:8:5: services.shop: unknown setting "owners"; did you mean "owner"?',
      'regain.yaml:10:7: services.shop.sources.db.url: is missing',
      'regain.yaml:10:29: services.shop.sources.db: unknown setting "ulr"; did you mean "url"?',
    ],
  ],
  [
    'a source of a later version, a misspelt one, one without type',
    `${BASE}      cache: { type: redis, url: x }\n      a: { type: postgers, url: x }\n      b: { paths: [a] }\n`,
    [
      'regain.yaml:10:22: services.shop.sources.cache.type: "redis" is not available in this version; there is: postgres, postgres-dump, postgres-tenants, files',
      'regain.yaml:11:18: services.shop.sources.a.type: unknown type "postgers"; did you mean "postgres"?',
      'regain.yaml:12:7: services.shop.sources.b.type: is missing; write type: postgres or postgres-dump or postgres-tenants or files',
    ],
  ],
  [
    'settings of later versions',
    BASE.replace('path: backups', 'path: backups, immutable: 90d'),
    ['regain.yaml:3:38: destinations.hot: unknown setting "immutable"; there is: type, path'],
  ],
  [
    'names',
    BASE.replace('shop:', 'Shop_1:'),
    [
      'regain.yaml:7:3: services.Shop_1: "Shop_1" is not a name: use a to z, 0 to 9 and hyphens inside, at most 63 characters',
    ],
  ],
  [
    'names that nothing has',
    BASE.replace('sources:', 'key: mian\n    destinations: [hot, offsite]\n    sources:'),
    [
      'regain.yaml:8:10: services.shop.key: there is no key "mian"; did you mean "main"?',
      'regain.yaml:9:25: services.shop.destinations[1]: there is no destination "offsite"; there is: hot',
    ],
  ],
  [
    'a choice of keys is not guessed',
    BASE.replace('main.key }', 'main.key }\n  other: { type: file, path: other.key }'),
    ['regain.yaml:8:3: services.shop: needs key: one of main, other'],
  ],
  [
    'durations and counts',
    `${BASE}    objectives: { rpo: 15, rto: 2 hours }\n    retention: { daily: 0, weekly: many }\n`,
    [
      'regain.yaml:10:24: services.shop.objectives.rpo: is not a duration: write 30s, 15m, 2h, 90d or 1h30m',
      'regain.yaml:10:33: services.shop.objectives.rto: is not a duration: write 30s, 15m, 2h, 90d or 1h30m',
      'regain.yaml:11:25: services.shop.retention.daily: must be at least 1',
      'regain.yaml:11:36: services.shop.retention.weekly: must be a number, not "many"',
    ],
  ],
  [
    'retention',
    `${BASE}    retention: { log: 5d, labels: [x] }
  two:
    retention: standart
    sources: { db: { type: files, paths: [x], retention: { daly: 3, within: soon, log: some, labels: [] } } }
  three: { sources: { db: { type: files, paths: [x], retention: 30 } }, schedule: { prune: "never" } }
`,
    [
      'regain.yaml:12:16: services.two.retention: "standart" is not one of standard, compact, critical, secondary, keep-all',
      'regain.yaml:13:60: services.two.sources.db.retention: unknown setting "daly"; did you mean "daily"?',
      'regain.yaml:13:77: services.two.sources.db.retention.within: is not a duration: write 30s, 15m, 2h, 90d or 1h30m',
      'regain.yaml:13:88: services.two.sources.db.retention.log: is neither a duration (write 36h, 14d) nor all',
      'regain.yaml:13:102: services.two.sources.db.retention.labels: needs at least one label',
      'regain.yaml:14:65: services.three.sources.db.retention: 30 is not one of standard, compact, critical, secondary, keep-all',
    ],
  ],
  [
    'retention that keeps nothing, a time to prune that is none',
    `${BASE}    retention: { log: 5d, labels: [x] }\n    schedule: { prune: never }\n`,
    [
      'regain.yaml:10:16: services.shop.retention: keeps nothing: name at least one of last, within, daily, weekly, monthly, yearly; or write retention: keep-all',
      'regain.yaml:11:24: services.shop.schedule.prune: give five fields: minute, hour, day of month, month, day of week; or none',
    ],
  ],
  [
    'schedules',
    `${BASE}    schedule: { full: "0 2 * *", incremental: "61 * * * *" }\n`,
    [
      'regain.yaml:10:23: services.shop.schedule.full: give five fields: minute, hour, day of month, month, day of week',
      `regain.yaml:10:47: services.shop.schedule.incremental: ${'%'}`,
    ],
  ],
  [
    'a time zone, once and at its own place',
    `${BASE}    schedule: { full: "0 2 * * *", incremental: "0 * * * *", timezone: Europe/Brelin }\n`,
    [
      "regain.yaml:10:72: services.shop.schedule.timezone: unknown time zone 'Europe/Brelin'; give an IANA name such as Europe/Berlin or UTC",
    ],
  ],
  [
    'a value that is no URL is not repeated: it may hold a secret',
    BASE.replace('"${SHOP_URL}"', 'mysql://root:hunter2@db'),
    [
      'regain.yaml:9:34: services.shop.sources.db.url: is not a PostgreSQL URL: write postgres://USER@HOST:5432/DATABASE',
    ],
  ],
  [
    'a secret of the wrong type is not repeated',
    BASE.replace('type: file, path: main.key', 'type: passphrase, passphrase: 4711'),
    ['regain.yaml:5:41: keys.main.passphrase: must be text'],
  ],
  [
    'a reference outside of sources and keys must be there now',
    BASE.replace('path: backups', 'path: "${BACKUPS}"'),
    ['regain.yaml:3:29: destinations.hot.path: the environment variable BACKUPS is not set'],
  ],
  [
    'a reference that is none',
    BASE.replace('path: backups', 'path: "${1X}"'),
    ['regain.yaml:3:29: destinations.hot.path: ${1X} is not a reference: write ${NAME}'],
  ],
  [
    'no source',
    BASE.replace(/sources:\n.*\n/, 'sources: {}\n'),
    ['regain.yaml:8:14: services.shop.sources: needs at least one source'],
  ],
]

for (const [title, text, expected] of MISTAKES) {
  test(`refused, with its place: ${title}`, async () => {
    const found = await mistakes(text)
    // What another module words is not repeated here: '%' stands for it.
    const worded = expected.map((line, i) =>
      line.endsWith('%') && found[i]?.startsWith(line.slice(0, -1)) ? found[i] : line,
    )
    assert.deepEqual(found, worded)
  })
}

test('a reference of a source that names what is not there is kept for whoever needs the source', async () => {
  const config = await load(BASE.replace('${SHOP_URL}', '${OTHER}'))
  assert.equal(
    config.services.shop?.sources.db?.unresolved,
    'regain.yaml:9:34: services.shop.sources.db.url: the environment variable OTHER is not set',
  )
})

const S3 = `hot:
    type: s3
    bucket: acme
    prefix: regain/production
    endpoint: https://s3.example:9000
    ca: ca.pem
    storageClass: STANDARD_IA
    immutable: 90d
    accessKeyId: \${S3_KEY}
    secretAccessKey: file:s3.secret
    limits: { upload: 20MB, requests: 50 }`

const onS3 = (s3: string) => BASE.replace('hot: { type: local, path: backups }', s3)

test('a bucket: every setting resolved, its secret from a file and never shown', async () => {
  await writeFile(join(folder, 's3.secret'), 'swordfish\n')
  const config = await load(onS3(S3), { ...ENVIRONMENT, S3_KEY: 'AKIA1' })
  assert.deepEqual(config.destinations.hot, {
    name: 'hot',
    type: 's3',
    bucket: 'acme',
    prefix: 'regain/production',
    endpoint: 'https://s3.example:9000',
    ca: join(folder, 'ca.pem'),
    storageClass: 'STANDARD_IA',
    immutableMs: 7_776_000_000,
    credentials: { accessKeyId: 'AKIA1', secretAccessKey: 'swordfish' },
    limits: { uploadBytesPerSecond: 20_000_000, requestsPerSecond: 50 },
  })
  assert.ok(!shownText(config.shown).includes('swordfish'))
})

test('a bucket needs no more than its name', async () => {
  const { hot } = (await load(onS3('hot: { type: s3, bucket: acme }'))).destinations
  assert.deepEqual(hot, { name: 'hot', type: 's3', bucket: 'acme', credentials: null, limits: {} })
})

test('credentials that are not at hand are kept for whoever needs the bucket', async () => {
  const { hot } = (await load(onS3(S3))).destinations
  assert.match(hot?.unresolved ?? '', /S3_KEY is not set/)
})

test('keys that a service keeps: their login resolved, secrets from files and never shown', async () => {
  await writeFile(join(folder, 'secret.id'), 'swordfish\n')
  const vault = `  vault: { type: vault, address: 'https://vault:8200', key: shop, ca: ca.pem, appRole: { roleId: r, secretId: 'file:secret.id' } }\n`
  const kms = `  kms: { type: aws-kms, key: alias/shop, region: eu-central-1 }\n`
  const config = await load(
    BASE.replace('\nservices:\n  shop:\n', `\n${vault}${kms}services:\n  shop:\n    key: kms\n`),
  )
  const { auth, ca, mount } = config.keys.vault as Extract<KeyConfiguration, { type: 'vault' }>
  assert.deepEqual(auth, { method: 'approle', roleId: 'r', secretId: 'swordfish', mount: 'approle' })
  assert.deepEqual([ca, mount], [join(folder, 'ca.pem'), 'transit'])
  assert.doesNotMatch(JSON.stringify(config.shown), /swordfish/)
  assert.equal((config.keys.kms as Extract<KeyConfiguration, { type: 'aws-kms' }>).credentials, null)
  for (const login of ['', ', token: a, kubernetes: { role: r }'])
    await assert.rejects(
      load(BASE.replace(/main: \{ type: file.*\}/, `main: { type: vault, address: 'https://v', key: k${login} }`)),
      /needs exactly one of token, appRole and kubernetes/,
    )
})

test('a secret key written in the file is a warning, and masked', async () => {
  const config = await load(onS3('hot: { type: s3, bucket: acme, accessKeyId: a, secretAccessKey: "swordfish:1" }'))
  assert.match(config.warnings.map(({ message }) => message).join(), /secretAccessKey: a secret stands in the file/)
  assert.ok(!shownText(config.shown).includes('swordfish'))
})

test('plain http only to this machine; half of an access key, bad classes, times and rates are mistakes', async () => {
  const problem = async (settings: string) =>
    (await mistakes(onS3(`hot: { type: s3, bucket: acme, ${settings} }`))).join()
  for (const host of ['127.0.0.1:9000', 'localhost', '[::1]:80', '127.9.9.9']) {
    await load(onS3(`hot: { type: s3, bucket: acme, endpoint: "http://${host}" }`))
  }
  for (const host of ['10.0.0.1', 'example.com', '127.0.0.1.example.com', 'localhost.example', '[::2]']) {
    assert.match(await problem(`endpoint: "http://${host}"`), /endpoint: would send credentials and data in clear text/)
  }
  assert.match(await problem('endpoint: "s3.example:9000"'), /endpoint: is not a URL/)
  assert.match(await problem('endpoint: "https://user:swordfish@s3.example"'), /endpoint: is not a URL/)
  assert.match(await problem('accessKeyId: a'), /accessKeyId and secretAccessKey go together/)
  assert.match(await problem('storageClass: DEEP_ARCHIVE'), /storageClass: can not be used/)
  assert.match(await problem('immutable: 2h'), /immutable: must be at least a day/)
  assert.match(await problem('prefix: /a/'), /prefix: is not a folder/)
  assert.match(await problem('limits: { upload: 20mb }'), /limits.upload: is not a rate/)
})

test('an empty variable is as good as none', async () => {
  const config = await load(BASE.replace('${SHOP_URL}', '${EMPTY}'))
  assert.match(config.services.shop?.sources.db?.unresolved ?? '', /EMPTY is not set/)
})

test('file: references give the text of a file without its last newline, relative to the configuration', async () => {
  await writeFile(join(folder, 'url.txt'), 'postgres://regain:hunter2@db/shop\n')
  const config = await load(BASE.replace('"${SHOP_URL}"', 'file:url.txt'))
  const source = config.services.shop?.sources.db
  assert.equal(source?.type === 'postgres' && source.url, 'postgres://regain:hunter2@db/shop')
  const missing = await load(BASE.replace('"${SHOP_URL}"', 'file:none.txt'))
  assert.match(missing.services.shop?.sources.db?.unresolved ?? '', /none\.txt does not exist$/)
})

test('retention: rules, presets, everything; those of a source stand in the place of the rules of its service', async () => {
  const { services } = await load(
    BASE.replace(
      'sources:',
      `retention: { last: 3, within: 36h, daily: 7, labels: [release-*], log: 14d }
    schedule: { prune: none, timezone: Europe/Berlin }
    sources:
      a: { type: files, paths: [a], retention: keep-all }
      b: { type: files, paths: [b], retention: { yearly: 2, log: all } }
      c: { type: files, paths: [c], retention: secondary }`,
    ),
  )
  const timeZone = 'Europe/Berlin'
  assert.deepEqual(services.shop?.retention, {
    a: { all: true, timeZone },
    b: { yearly: 2, log: 'all', timeZone },
    c: { withinMs: 7 * 86_400_000, timeZone },
    db: { last: 3, withinMs: 36 * 3_600_000, daily: 7, labels: ['release-*'], log: 14 * 86_400_000, timeZone },
  })
  assert.equal(services.shop?.schedule.prune, null)
  assert.deepEqual(services.shop?.sources.b, {
    name: 'b',
    place: 'regain.yaml:12:7',
    type: 'files',
    paths: [join(folder, 'b')],
    exclude: [],
  })
})

test('a dollar sign is written twice where no reference is meant', async () => {
  const config = await load(BASE.replace('path: backups', () => 'path: "/srv/$${HOME}"'))
  assert.equal(localPath(config), '/srv/${HOME}')
})

test('what is shown holds references as written and no secret', async () => {
  const text = `${BASE}      old: { type: postgres, url: "postgres://regain:hunter2@old/shop?sslmode=require" }
      q: { type: postgres, url: "postgres://old/shop?user=a&password=hunter2" }
      ha: { type: postgres, url: "postgres://regain:hunter2@one:1,other/shop?target_session_attrs=primary" }
`
    .replace('keys:', 'keys:\n  second: { type: passphrase, passphrase: hunter2 }')
    .replace('    sources:', '    key: main\n    sources:')
  const shown = shownText((await load(text)).shown)
  assert.doesNotMatch(shown, /hunter2/)
  assert.match(shown, /url: \$\{SHOP_URL\}/)
  assert.match(shown, /postgres:\/\/regain:\*\*\*@old\/shop\?sslmode=require/)
  assert.match(shown, /postgres:\/\/regain:\*\*\*@one:1,other\/shop\?target_session_attrs=primary/)
  assert.match(shown, /passphrase: "\*\*\*"/)
  assert.match(shown, /tail: 3s/)
})

test('of a URL only what is known to be harmless is shown', async () => {
  const all =
    'postgres://me@one:1,other/shop?host=a&port=1&user=b&dbname=c&sslmode=require&sslrootcert=/r&sslcert=/c&sslkey=/k&connect_timeout=5&channel_binding=require&application_name=d&target_session_attrs=any'
  const shown: [string, string][] = [
    [all, all],
    ['postgres://me@db/shop?pasword=hunter2&sslmode=require', 'postgres://me@db/shop?pasword=***&sslmode=require'],
    ['postgres://me@db/shop?pass%77ord=hunter2', 'postgres://me@db/shop?pass%77ord=***'],
    ['postgres://me@db/shop?hunter2', 'postgres://me@db/shop?***'],
    ['postgres://me@db/shop#hunter2', 'postgres://me@db/shop#***'],
    ['postgres://me:5432/hunter2@db/shop', '***'],
    ['postgres://me:5432?hunter2@db/shop', '***'],
    ['host=db user=me pasword=hunter2', '***'],
  ]
  for (const [url, expected] of shown) {
    // Refused as no URL, where it is none: what is shown of it, errors say as well.
    const text = BASE.replace('"${SHOP_URL}"', JSON.stringify(url))
    const config = url.startsWith('host=') ? null : await load(text)
    if (config === null) assert.doesNotMatch((await mistakes(text)).join('\n'), /hunter2/)
    else assert.equal(JSON.stringify(config.shown).includes(`"url":"${expected}"`), true, url)
  }
})

test('what is not acted on is said, with its place', async () => {
  const config = await load(
    `${BASE}    environment: production
    compliance: [gdpr]
    objectives: { rpo: 15m }
    drills: { schedule: "0 4 1 * *" }
`,
  )
  const said = config.warnings.map(({ place, service, message }) => `${place} ${service}: ${message.split(':')[0]}`)
  assert.deepEqual(said, [
    'regain.yaml:10:5 shop: services.shop.environment',
    'regain.yaml:11:5 shop: services.shop.compliance',
    'regain.yaml:12:5 shop: services.shop.objectives',
    'regain.yaml:13:5 shop: services.shop.drills',
    'regain.yaml:9:7 shop: services.shop.sources.db',
    'regain.yaml:7:3 shop: services.shop',
  ])
  assert.match(config.warnings[4]!.message, /has no retention rules/)
  assert.match(config.warnings[5]!.message, /has no schedule/)
})

test('a secret written in the file is a warning; in the environment it is none', async () => {
  const warned = async (url: string) =>
    (await load(BASE.replace('"${SHOP_URL}"', url))).warnings.filter(({ message }) => /secret stands/.test(message))
      .length
  assert.equal(await warned('"${SHOP_URL}"'), 0)
  assert.equal(await warned('postgres://regain@db/shop'), 0)
  assert.equal(await warned('"postgres://regain@db:1,other:2/shop"'), 0)
  assert.equal(await warned('postgres://regain:hunter2@db/shop'), 1)
  assert.equal(await warned('"postgres://db/shop?password=hunter2"'), 1)
})

test('limits of backups: a share, a rate, a window', async () => {
  const none = await load(BASE)
  assert.deepEqual(none.services.shop!.limits, { window: null })
  const never = await load(`${BASE}    limits: { busy: 100% }\n`)
  assert.deepEqual(never.services.shop!.limits, { busyShare: 1, window: null })
  const { limits } = (await load(`${BASE}    limits: { cpu: 50%, busy: 5%, read: 20MB, window: "22:00-06:30" }\n`))
    .services.shop!
  const window = { startMinute: 22 * 60, endMinute: 6 * 60 + 30 }
  assert.deepEqual(limits, { cpuShare: 0.5, busyShare: 0.05, readBytesPerSecond: 20_000_000, window })
  const wrong = await mistakes(`${BASE}    limits: { cpu: 100%, busy: 0%, read: 20, window: "22:00-22:00" }\n`)
  assert.match(
    wrong.join('\n'),
    /cpu: is not a share.*\n.*busy: is not a share.*\n.*read: is not a rate.*\n.*window: is not a time of day/,
  )
})

test('no configuration', async () => {
  await assert.rejects(loadConfiguration({ path: join(folder, 'none.yaml'), environment: {} }), {
    code: 'config-not-found',
  })
  await assert.rejects(loadConfiguration({ path: folder, environment: {} }), { code: 'config-not-found' })
})

test('aliases that contain themselves, or multiply without bound, are a mistake with its place', async () => {
  assert.match(
    (await mistakes('version: 1\nkeys: &a [*a]\n'))[0] ?? '',
    /^regain\.yaml:2:\d+: keys: is nested too deeply/,
  )
  const ten = (name: string) => `[${Array(10).fill(name).join(',')}]`
  const laughs = ['version: 1', `a: &a ${ten('x')}`]
  for (const [before, name] of ['ab', 'bc', 'cd', 'de', 'ef', 'fg', 'gh'])
    laughs.push(`${name}: &${name} ${ten(`*${before}`)}`)
  assert.match((await mistakes(laughs.join('\n')))[0] ?? '', /too large/)
})
