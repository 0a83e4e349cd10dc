import { z } from 'zod'
import { parseDuration } from './duration.ts'
import { duration, endpoint, rate, text } from './scalars.ts'

/** Where backups go, as written in regain.yaml. */

const immutable = duration
  .refine((value) => (parseDuration(value) ?? 0) >= 86_400_000, {
    error: 'must be at least a day: write for example 90d',
  })
  .describe('For so long nobody can remove a point, whoever has the credentials; needs Object Lock')

const objectPrefix = z.string().regex(/^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/, {
  error: 'is not a folder: use A to Z, a to z, 0 to 9, ".", "_", "-", and "/" between',
})

const limits = z
  .strictObject({
    upload: rate.optional().describe('Bytes a second'),
    download: rate.optional().describe('Bytes a second'),
    requests: z.int().min(1).optional().describe('Requests a second'),
  })
  .describe('What one run may take of the connection; averages over some seconds')

export const destinationSchema = z.discriminatedUnion('type', [
  z
    .strictObject({
      type: z.literal('local'),
      path: text.describe('Directory that holds one repository per service'),
    })
    .describe('A directory of this machine, or one mounted here'),
  z
    .strictObject({
      type: z.literal('s3'),
      bucket: z
        .string()
        .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/, { error: 'is not the name of a bucket' })
        .describe('Bucket, which must be there; Regain never makes one'),
      prefix: objectPrefix.optional().describe('Folder of the bucket that holds one repository per service'),
      region: text.optional().describe("us-east-1 if there is an endpoint; else from the AWS SDK's own settings"),
      endpoint: endpoint.optional().describe('URL of a store other than Amazon S3'),
      pathStyle: z.boolean().optional().describe('Bucket in the path and not in the host name; so with an endpoint'),
      ca: text.optional().describe('PEM file of the authority that signed the certificate of the endpoint'),
      storageClass: z
        .string()
        .regex(/^[A-Z0-9_]+$/, { error: 'is not a storage class: write for example STANDARD_IA' })
        .refine((value) => !/^(GLACIER|DEEP_ARCHIVE)$/.test(value), {
          error: 'can not be used: what is in it must be thawed for hours before it can be read. GLACIER_IR can',
        })
        .optional()
        .describe('Of objects of 128 KiB and more'),
      immutable: immutable.optional(),
      accessKeyId: text.optional().describe("Of the access key; the AWS SDK's own search if left out"),
      secretAccessKey: text.optional().describe('As ${NAME} or file:PATH; never the key itself'),
      sessionToken: text.optional().describe('As ${NAME} or file:PATH, for credentials that expire'),
      limits: limits.optional(),
    })
    .describe('A bucket of Amazon S3 or of a store that is compatible with it'),
  z
    .strictObject({
      type: z.literal('azure'),
      container: z
        .string()
        .regex(/^(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*$/, { error: 'is not the name of a container' })
        .describe('Container, which must be there; Regain never makes one'),
      prefix: objectPrefix.optional().describe('Folder of the container that holds one repository per service'),
      account: text.optional().describe('Storage account'),
      accountKey: text.optional().describe('As ${NAME} or file:PATH; never the key itself'),
      sas: text.optional().describe('Shared access signature, as ${NAME} or file:PATH'),
      connectionString: text.optional().describe('As ${NAME} or file:PATH; instead of account and accountKey'),
      endpoint: endpoint
        .optional()
        .describe('URL of the blob service, if it is not https://ACCOUNT.blob.core.windows.net'),
      limits: limits.optional(),
    })
    .describe('A container of Azure Blob Storage'),
  z
    .strictObject({
      type: z.literal('gcs'),
      bucket: z
        .string()
        .regex(/^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/, { error: 'is not the name of a bucket' })
        .describe('Bucket, which must be there; Regain never makes one'),
      prefix: objectPrefix.optional().describe('Folder of the bucket that holds one repository per service'),
      credentials: text.optional().describe('Credentials file; Application Default Credentials if left out'),
      endpoint: endpoint.optional().describe("URL of the service, if it is not Google's own"),
      immutable: immutable.optional(),
      limits: limits.optional(),
    })
    .describe('A bucket of Google Cloud Storage'),
  z
    .strictObject({
      type: z.literal('sftp'),
      host: z
        .string()
        .regex(/^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$/, { error: 'is not the name or address of a host' })
        .describe('Name or address of the server'),
      port: z.int().min(1).max(65_535).default(22),
      user: text,
      path: text.describe(
        'Folder on the server that holds one repository per service; relative to where the login begins',
      ),
      identity: text.optional().describe('Path of a private key'),
      passphrase: text.optional().describe('Of the private key, as ${NAME} or file:PATH'),
      agent: text.optional().describe('Socket of an ssh-agent: ${SSH_AUTH_SOCK}'),
      password: text.optional().describe('As ${NAME} or file:PATH; never the password itself'),
      hostKey: z
        .string()
        .regex(/^SHA256:[A-Za-z0-9+/]{43}=?$/, {
          error: 'is not a fingerprint: write SHA256: and 43 characters, as ssh-keygen -l prints it',
        })
        .optional()
        .describe("Fingerprint of the server's host key"),
      knownHosts: text.optional().describe('Path of a known_hosts file that holds the host key, instead of hostKey'),
      limits: limits.optional(),
    })
    .describe('A folder of an SFTP server: OpenSSH, or one with its extensions'),
])
