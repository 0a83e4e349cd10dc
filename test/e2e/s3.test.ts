import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { DeleteObjectCommand, ListObjectVersionsCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { type CommandResult, jsonLines, LAUNCHER, runCommand } from '../support/command.ts'
import { describeTree, diffTrees } from '../support/describe-tree.ts'
import { startRadosgw, type TestS3 } from '../support/radosgw.ts'

/** The command line with a real S3 server, and an attacker who has the store's own credentials. */
describe('a destination in S3', () => {
  let home: string
  let s3: TestS3
  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'regain-e2e-s3-'))
    s3 = await startRadosgw()
  })
  after(async () => {
    await s3?.stop()
    await rm(home, { recursive: true })
  })

  function regain(cwd: string, ...args: string[]): Promise<CommandResult> {
    const { PATH = '' } = process.env
    const env = { PATH, HOME: home, S3_SECRET: s3.credentials.secretAccessKey, AWS_EC2_METADATA_DISABLED: 'true' }
    return runCommand(LAUNCHER, args, { cwd, env })
  }

  async function succeeds(cwd: string, ...args: string[]): Promise<CommandResult> {
    const result = await regain(cwd, ...args)
    assert.equal(result.status, 0, result.stderr)
    return result
  }

  /** A service with some files, whose repository is below `prefix` of the bucket. */
  async function place(name: string, settings: string): Promise<string> {
    const cwd = join(home, name)
    await mkdir(join(cwd, 'data/sub'), { recursive: true })
    await writeFile(join(cwd, 'data/a.txt'), 'first\n')
    await writeFile(join(cwd, 'data/sub/large'), randomBytes(9_000_000))
    await writeFile(
      join(cwd, 'regain.yaml'),
      `version: 1
destinations:
  far:
    type: s3
    prefix: some/folder
    endpoint: ${s3.endpoint}
    accessKeyId: ${s3.credentials.accessKeyId}
    secretAccessKey: \${S3_SECRET}
    ${settings}
keys: { main: { type: file, path: main.key } }
services:
  shop:
    retention: keep-all
    sources: { files: { type: files, paths: [data] } }
`,
    )
    return cwd
  }

  async function restoresAs(cwd: string, point: string, expected: readonly string[]): Promise<void> {
    const target = join(cwd, `restored-${point}`)
    await succeeds(cwd, 'restore', 'shop/files', '--to', target, '--at', point)
    assert.deepEqual(diffTrees(expected, await describeTree(target)), [])
  }

  async function pointIds(cwd: string): Promise<string[]> {
    const { stdout } = await succeeds(cwd, 'points', '--json')
    const last = jsonLines(stdout).at(-1) as { sources: { points: { id: string }[] }[] }
    return last.sources.flatMap(({ points }) => points.map(({ id }) => id))
  }

  for (const kind of ['plain', 'versioned'] as const) {
    test(`backs up, verifies and restores (${kind} bucket)`, async () => {
      const cwd = await place(kind, `bucket: ${await s3.bucket(kind)}\n    storageClass: STANDARD_IA`)
      await succeeds(cwd, 'init')
      await succeeds(cwd, 'backup', 'shop')
      const first = await describeTree(join(cwd, 'data'))
      await writeFile(join(cwd, 'data/a.txt'), 'second\n')
      await succeeds(cwd, 'backup', 'shop')
      await succeeds(cwd, 'check')
      await succeeds(cwd, 'verify', 'shop', '--read-data')
      const { stdout } = await succeeds(cwd, 'repository', 'check', 'far', '--json')
      const [store, verified] = jsonLines(stdout).filter(({ type }) => type === 'result') as { findings: Finding[] }[]
      assert.deepEqual(
        store!.findings.map(({ broken }) => broken),
        store!.findings.map(() => null),
      )
      assert.ok(verified)
      const ids = await pointIds(cwd)
      assert.equal(ids.length, 2)
      const oldest = (await regain(cwd, 'cat', ids[0]!, 'a.txt')).stdout === 'first\n' ? ids[0]! : ids[1]!
      await restoresAs(cwd, oldest, first)
    })
  }

  test('restores everything after all was overwritten and deleted with the credentials of the store', async () => {
    const bucket = await s3.bucket('locking')
    const cwd = await place('attacked', `bucket: ${bucket}\n    immutable: 1d`)
    await succeeds(cwd, 'init')
    const trees = new Map<string, string[]>()
    for (const content of ['first\n', 'second\n', 'third\n']) {
      await writeFile(join(cwd, 'data/a.txt'), content)
      await succeeds(cwd, 'backup', 'shop')
      const id = (await pointIds(cwd)).find((one) => !trees.has(one))!
      trees.set(id, await describeTree(join(cwd, 'data')))
    }

    const { destroyed, refused } = await destroy(s3, bucket)
    assert.ok(refused > 10, `${refused} deletes were refused`)
    assert.ok(destroyed > 0, 'what is not part of a point is not locked')

    assert.deepEqual((await pointIds(cwd)).sort(), [...trees.keys()].sort())
    // As another machine would, which has no copies of what the store held.
    await rm(join(home, '.local/state/regain/cache'), { recursive: true })
    for (const [id, tree] of trees) await restoresAs(cwd, id, tree)
  })

  test('keys that the store locks stay at every destination when they are to be destroyed, and are told when rotated', async () => {
    const cwd = await place('locked-keys', `bucket: ${await s3.bucket('locking')}\n    immutable: 1d`)
    const config = join(cwd, 'regain.yaml')
    const written = (await readFile(config, 'utf8'))
      .replace('keys: { ', 'keys: { next: { type: file, path: next.key }, ')
      .replace('destinations:', 'destinations:\n  near: { type: local, path: near }')
      .replace('  shop:', '  shop:\n    key: main')
    await writeFile(config, written)
    await succeeds(cwd, 'init')
    await succeeds(cwd, 'backup', 'shop')

    const destroyed = await regain(cwd, 'key', 'destroy', 'shop', '--yes-destroy-all-data', 'shop')
    assert.equal(destroyed.status, 5)
    assert.match(destroyed.stderr, /far keeps .* Nothing was destroyed, at any destination/)
    await succeeds(cwd, 'verify', 'shop', '--read-data')

    const rotated = await regain(cwd, 'key', 'rotate', 'shop', 'next')
    assert.equal(rotated.status, 3, rotated.stderr)
    assert.match(rotated.stderr, /still opens the repository at far/)
    assert.match(rotated.stderr, /does not open the repository at near any more/)
    await writeFile(config, written.replace('key: main', 'key: next'))
    await succeeds(cwd, 'verify', 'shop', '--read-data')
  })

  test('says in plain words what is wrong, and no secret', async () => {
    const broken: [settings: string, message: RegExp][] = [
      ['bucket: not-there', /There is no bucket not-there/],
      [`bucket: ${await s3.bucket('versioned')}\n    immutable: 1d`, /has no Object Lock/],
    ]
    for (const [i, [settings, message]] of broken.entries()) {
      const { status, stderr } = await regain(await place(`broken-${i}`, settings), 'init')
      assert.match(stderr, message)
      assert.equal(status, 6)
    }
    const cwd = await place('wrong-secret', `bucket: ${await s3.bucket()}`)
    const { PATH = '' } = process.env
    await succeeds(cwd, 'init')
    const env = { PATH, HOME: home, S3_SECRET: 'swordfish' }
    const { status, stderr } = await runCommand(LAUNCHER, ['points'], { cwd, env })
    assert.equal(status, 5, stderr)
    assert.match(stderr, /SignatureDoesNotMatch/)
    assert.ok(!stderr.includes('swordfish'))
  })
})

interface Finding {
  what: string
  broken: string | null
}

/** Deletes every version, one by one; then writes over every name and hides it under a delete marker, twice. */
async function destroy({ client }: TestS3, Bucket: string): Promise<{ destroyed: number; refused: number }> {
  const { Versions = [], IsTruncated } = await client.send(new ListObjectVersionsCommand({ Bucket }))
  assert.equal(IsTruncated, false)
  let destroyed = 0
  let refused = 0
  for (const { Key, VersionId } of Versions) {
    await client.send(new DeleteObjectCommand({ Bucket, Key, VersionId })).then(
      () => destroyed++,
      () => refused++,
    )
  }
  for (let round = 0; round < 2; round++) {
    for (const Key of new Set(Versions.map((version) => version.Key))) {
      await client.send(new PutObjectCommand({ Bucket, Key, Body: Buffer.from('encrypted: pay us') }))
      await client.send(new DeleteObjectCommand({ Bucket, Key }))
      if (round === 1) await client.send(new PutObjectCommand({ Bucket, Key, Body: randomBytes(200) }))
    }
  }
  return { destroyed, refused }
}
