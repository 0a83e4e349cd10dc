import { z } from 'zod'
import { destinationSchema } from './destination-schema.ts'
import { parseDuration } from './duration.ts'
import { KEEP_ALL, RETENTION_PRESETS } from './retention.ts'
import { duration, endpoint, rate, slotLimit, text } from './scalars.ts'
import { parseUrlOfHosts } from './several-hosts.ts'
import { parseWindow } from './window.ts'

/**
 * The shape of regain.yaml, as written: no value is transformed here, so that `config show` can print what a person
 * wrote with the defaults filled in, and the JSON Schema says the same. resolve.ts makes it ready for use.
 */

const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/

const name = z.string().regex(NAME, {
  error: 'is not a name: use a to z, 0 to 9 and hyphens inside, at most 63 characters',
})
const NOT_A_LOG_TIME = 'is neither a duration (write 36h, 14d) nor all'

const serviceKey = z.string().regex(/^[A-Za-z0-9._-]+$/, { error: 'is not the name of a key' })
const mountPath = z.string().regex(/^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/, {
  error: 'is not a path in Vault: write it without slashes at its ends',
})

export const keySchema = z.discriminatedUnion('type', [
  z
    .strictObject({
      type: z.literal('file'),
      path: text.describe('Key file, made by regain init; keep a copy of it elsewhere'),
    })
    .describe('A random key in a file'),
  z
    .strictObject({
      type: z.literal('passphrase'),
      passphrase: text.describe('As ${NAME} or file:PATH; never the passphrase itself'),
    })
    .describe('A key derived from a passphrase by argon2id'),
  z
    .strictObject({
      type: z.literal('vault'),
      address: endpoint.describe('URL of the server: https, or http to this machine itself'),
      key: serviceKey.describe("Name of the key in the transit engine, of an AEAD type: aes256-gcm96, Vault's default"),
      mount: mountPath.default('transit').describe('Where the transit engine is mounted'),
      namespace: text.optional().describe('Of Vault Enterprise and HCP'),
      ca: text.optional().describe("PEM file of the authority that signed the server's certificate"),
      token: text.optional().describe('As ${NAME} or file:PATH; never the token itself'),
      appRole: z
        .strictObject({
          roleId: text,
          secretId: text.describe('As ${NAME} or file:PATH; never the secret itself'),
          mount: mountPath.default('approle'),
        })
        .optional()
        .describe('Log in by AppRole'),
      kubernetes: z
        .strictObject({
          role: text,
          mount: mountPath.default('kubernetes'),
          tokenPath: text.default('/var/run/secrets/kubernetes.io/serviceaccount/token'),
        })
        .optional()
        .describe("Log in by the pod's service account"),
    })
    .describe('A key in the transit engine of HashiCorp Vault, which never leaves it'),
  z
    .strictObject({
      type: z.literal('aws-kms'),
      key: text.describe('ARN, id or alias (alias/NAME) of a symmetric key'),
      region: text.optional().describe("The AWS SDK's own search if left out"),
      endpoint: endpoint.optional().describe('URL of a KMS other than the public one of the region'),
      accessKeyId: text.optional().describe("Of the access key; the AWS SDK's own search if left out"),
      secretAccessKey: text.optional().describe('As ${NAME} or file:PATH; never the key itself'),
      sessionToken: text.optional().describe('As ${NAME} or file:PATH, for credentials that expire'),
    })
    .describe('A key of AWS KMS, which never leaves it'),
])

const count = z.number().int().min(1, { error: 'must be at least 1' }).optional()

export const retentionSchema = z
  .union([
    z.enum([...(Object.keys(RETENTION_PRESETS) as (keyof typeof RETENTION_PRESETS)[]), KEEP_ALL]),
    z.strictObject({
      last: count.describe('The newest points, this many'),
      within: duration.optional().describe('Every point of this long before the newest'),
      daily: count.describe('The last point of each of so many days that have one'),
      weekly: count.describe('The last point of each of so many weeks'),
      monthly: count.describe('The last point of each of so many months'),
      yearly: count.describe('The last point of each of so many years'),
      labels: z
        .array(text)
        .min(1, { error: 'needs at least one label' })
        .optional()
        .describe('Points with such a label are kept for ever; * is any text'),
      log: z
        .string({ error: NOT_A_LOG_TIME })
        .refine((value) => value === 'all' || parseDuration(value) !== null, { error: NOT_A_LOG_TIME })
        .optional()
        .describe('How far back any moment can be reached; all: as far as points are kept'),
    }),
  ])
  .describe('Which points are kept: rules, the name of a preset, or keep-all')

const fingerprint = z
  .boolean()
  .default(true)
  .describe('Keep counts of tables and a hash of the definitions with each point, to compare restores with')

const postgresSchema = z
  .strictObject({
    type: z.literal('postgres'),
    url: text
      .refine(isPostgresUrl, { error: 'is not a PostgreSQL URL: write postgres://USER@HOST:5432/DATABASE' })
      .describe('Connection URL of a role with the REPLICATION attribute; may name several hosts, as of libpq'),
    log: z
      .enum(['continuous', 'none'])
      .default('continuous')
      .describe('continuous: regain serve follows the transaction log, for recovery to any moment'),
    slot: z
      .string()
      .regex(/^[a-z0-9_]{1,63}$/, { error: 'is not a slot name: use a to z, 0 to 9 and _' })
      .optional()
      .describe('Physical replication slot of the log follower; by default named after service and source'),
    slotLimit: slotLimit
      .default('auto')
      .describe(
        'Log that the server may keep for Regain while it can not be stored; then the slot is dropped. auto: by its disk, or by the size of the data; never',
      ),
    tail: duration.default('3s').describe('How often the unfinished segment of the log is shipped'),
    programs: text.optional().describe("Directory of PostgreSQL's own programs, for restores that start a server"),
    fingerprint,
    retention: retentionSchema.optional().describe('Instead of the rules of the service'),
  })
  .describe('A PostgreSQL cluster, over the replication protocol')

const postgresDumpSchema = z
  .strictObject({
    type: z.literal('postgres-dump'),
    url: text
      .refine(isPostgresUrl, { error: 'is not a PostgreSQL URL: write postgres://USER@HOST:5432/DATABASE' })
      .describe('Connection URL of a role that may read what is dumped; may name several hosts, as of libpq'),
    databases: z
      .array(text)
      .min(1, { error: 'needs at least one database' })
      .optional()
      .describe('Databases to dump; all but templates if left out'),
    exclude: z
      .array(text)
      .default([])
      .describe('Tables whose rows are left out: [SCHEMA.]TABLE, with * and ?; definitions stay'),
    unlogged: z.boolean().default(true).describe('Whether rows of unlogged tables are dumped'),
    jobs: z
      .number()
      .int()
      .min(1, { error: 'must be at least 1' })
      .max(8, { error: 'must be at most 8' })
      .default(2)
      .describe('How many programs read from the server at once, or load into one'),
    programs: text.optional().describe("Directory of PostgreSQL's client programs; found by itself as a rule"),
    fingerprint,
    retention: retentionSchema.optional().describe('Instead of the rules of the service'),
  })
  .describe('Databases of a PostgreSQL server, as archives of pg_dump')

const postgresTenantsSchema = z
  .strictObject({
    type: z.literal('postgres-tenants'),
    url: text
      .refine(isPostgresUrl, { error: 'is not a PostgreSQL URL: write postgres://USER@HOST:5432/DATABASE' })
      .describe('Connection URL of a role that may read the tables of tenants, with their database'),
    tenants: z
      .strictObject({
        table: text.describe('The table that has the tenants: [SCHEMA.]TABLE'),
        key: text.describe('Its column that names a tenant'),
        columns: z.array(text).default([]).describe('Columns that name the tenant in any other table that has one'),
        owners: z
          .record(text, z.array(text).min(1, { error: 'needs a column' }))
          .default({})
          .describe(
            'By table, the columns of the foreign key that decides whose a row is; the nearest one if left out',
          ),
        shared: z
          .array(text)
          .default([])
          .describe('Tables that belong to nobody: [SCHEMA.]TABLE, with * and ?; rows that a tenant needs go along'),
        exclude: z.array(text).default([]).describe('Tables that are left out: [SCHEMA.]TABLE, with * and ?'),
      })
      .describe('Whose rows are whose; what refers to a row of a tenant is of that tenant'),
    retention: retentionSchema.optional().describe('Instead of the rules of the service'),
  })
  .describe('The tenants of a PostgreSQL database, each in a repository with keys of its own')

const filesSchema = z
  .strictObject({
    type: z.literal('files'),
    paths: z.array(text).min(1, { error: 'needs at least one path' }).describe('Directories or files to back up'),
    exclude: z.array(text).default([]).describe('Globs of what to leave out'),
    before: text.optional().describe('Shell command run before reading, for example to freeze an application'),
    after: text.optional().describe('Shell command run after reading, whatever happened'),
    retention: retentionSchema.optional().describe('Instead of the rules of the service'),
  })
  .describe('Folders and files with all their attributes')

export const sourceSchema = z.discriminatedUnion('type', [
  postgresSchema,
  postgresDumpSchema,
  postgresTenantsSchema,
  filesSchema,
])

export const serviceSchema = z.strictObject({
  owner: text.optional().describe('Team or person who answers for this service'),
  environment: text.optional().describe('production, staging, development'),
  compliance: z.array(z.enum(['gdpr', 'hipaa'])).optional(),
  objectives: z
    .strictObject({
      rpo: duration.optional().describe('How much may be lost'),
      rto: duration.optional().describe('How long a restore may take'),
    })
    .optional(),
  key: name.optional().describe('One of keys; not needed if there is only one'),
  destinations: z
    .array(name)
    .min(1, { error: 'needs at least one destination' })
    .optional()
    .describe('Some of destinations; all of them if left out'),
  sources: z.record(name, sourceSchema),
  schedule: z
    .strictObject({
      full: text.optional().describe('Cron expression of full backups'),
      incremental: text.optional().describe('Cron expression of incremental backups'),
      prune: text
        .optional()
        .describe('Cron expression of the removal of what retention does not keep; daily if left out, none: by hand'),
      timezone: text
        .optional()
        .describe('IANA time zone of the expressions, and of the days of retention; UTC if left out'),
    })
    .optional(),
  retention: retentionSchema.optional(),
  limits: z
    .strictObject({
      cpu: z
        .string()
        .regex(/^[1-9][0-9]?%$/, { error: 'is not a share of the processors: write 1% to 99%' })
        .optional()
        .describe('Of all processors of the machine together, while a backup runs'),
      busy: z
        .string()
        .regex(/^([1-9][0-9]?|100)%$/, { error: 'is not a share of the processors: write 1% to 100%' })
        .optional()
        .describe(
          'Of all processors together, while others keep them busy; 100% never gives way; if left out 1% for postgres, 100% for others',
        ),
      read: rate.optional().describe('Bytes a second from the source'),
      window: z
        .string()
        .refine((value) => parseWindow(value) !== null, { error: 'is not a time of day: write 22:00-06:00' })
        .optional()
        .describe("Scheduled backups run inside it only and end with it; in the schedule's time zone"),
    })
    .optional()
    .describe('What backups of this service may take of its machine; see limits of a destination for transfers'),
  drills: z
    .strictObject({
      schedule: text,
      checks: z
        .array(z.union([z.enum(['integrity', 'schema', 'startup']), z.strictObject({ sql: text })]))
        .default(['integrity', 'startup']),
    })
    .optional(),
})

export const configurationSchema = z.strictObject({
  version: z.literal(1).describe('Version of this file format'),
  state: text.optional().describe('Directory of what the daemon remembers; $XDG_STATE_HOME/regain if left out'),
  destinations: z.record(name, destinationSchema),
  keys: z.record(name, keySchema),
  services: z.record(name, serviceSchema),
})

/** regain.yaml as written, references resolved, defaults filled in. */
export type WrittenConfiguration = z.infer<typeof configurationSchema>
export type WrittenDestination = z.infer<typeof destinationSchema>
export type WrittenService = z.infer<typeof serviceSchema>
export type WrittenRetention = z.infer<typeof retentionSchema>

/** Types that the file format reserves and this version has no driver for: refused by name, not as a typing mistake. */
export const NOT_YET = {
  destinations: [],
  keys: [],
  sources: ['redis', 'mysql', 'mariadb', 'config', 'git', 'volume', 'kubernetes'],
} as const

export const AVAILABLE = {
  destinations: ['local', 's3', 'azure', 'gcs', 'sftp'],
  keys: ['file', 'passphrase', 'vault', 'aws-kms'],
  sources: ['postgres', 'postgres-dump', 'postgres-tenants', 'files'],
} as const

function isPostgresUrl(value: string): boolean {
  // A reference that could not be resolved stays as written; whoever needs the value says so then.
  if (value.includes('${') || value.startsWith('file:')) return true
  return /^postgres(?:ql)?:\/\//.test(value) && parseUrlOfHosts(value) !== null
}
