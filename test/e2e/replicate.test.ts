import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { jsonLines, LAUNCHER, runCommand } from '../support/command.ts'

/** Several destinations as people use them: real processes, real repositories with keys of their own. */

interface Line {
  type: string
  destination: string
  code: string
  to: string
  point: { id: string; origin?: object }
  points: { id: string }[]
  bytes: { read: number; source: number }
  problems: unknown[]
}

let home: string
before(async () => {
  home = await mkdtemp(join(tmpdir(), 'regain-replicate-'))
})
after(() => rm(home, { recursive: true }))

async function regain(...args: string[]) {
  const { PATH = '' } = process.env
  const env = { PATH, HOME: home, XDG_STATE_HOME: join(home, 'state'), XDG_CACHE_HOME: join(home, 'cache') }
  const { status, stdout, stderr } = await runCommand(LAUNCHER, [...args, '--json'], { cwd: home, env })
  return { status, stderr, lines: jsonLines(stdout) as unknown as Line[] }
}

async function results(...args: string[]): Promise<Line[]> {
  const { status, stderr, lines } = await regain(...args)
  assert.equal(status, 0, stderr)
  return lines.filter(({ type }) => type === 'result')
}

test('a source is read once for all its destinations, and one that was away gets what it missed', async () => {
  await mkdir(join(home, 'data'))
  for (let i = 0; i < 50; i++) await writeFile(join(home, `data/${i}`), `file ${i}\n`.repeat(i * 100))
  await writeFile(
    join(home, 'regain.yaml'),
    `version: 1
destinations: { hot: { type: local, path: hot }, far: { type: local, path: far } }
keys: { main: { type: file, path: main.key } }
services:
  shop:
    owner: tests
    environment: development
    sources: { files: { type: files, paths: [data], before: "echo >>${home}/reads" } }
    schedule: { full: "0 2 * * *" }
    retention: { daily: 7 }
`,
  )
  await results('init', '--yes')
  const both = await results('backup', 'shop')
  assert.deepEqual(
    both.map(({ destination }) => destination),
    ['hot', 'far'],
  )
  assert.equal(await readFile(join(home, 'reads'), 'utf8'), '\n', 'the source was read once')

  await writeFile(join(home, 'data/7'), 'changed')
  await rename(join(home, 'far'), join(home, 'unplugged'))
  const away = await regain('backup', 'shop')
  assert.equal(away.status, 10)
  assert.deepEqual(away.lines.map(({ type, destination }) => [type, destination]).slice(-2), [
    ['result', 'hot'],
    ['error', 'far'],
  ])
  await rename(join(home, 'unplugged'), join(home, 'far'))
  const [replicated] = await results('replicate', 'shop')
  assert.equal(replicated?.points.length, 1)
  const [again] = await results('replicate', 'shop')
  assert.equal(again?.points.length, 0)

  // The first destination is gone for good: the other one serves backups, restores, and then its return.
  await rm(join(home, 'hot'), { recursive: true })
  await writeFile(join(home, 'data/8'), 'changed too')
  const alone = await regain('backup', 'shop')
  assert.equal(alone.status, 10)
  assert.ok(alone.lines.some(({ type, destination }) => type === 'result' && destination === 'far'))
  await results('init', '--yes')
  const [back] = await results('replicate', 'shop', '--from', 'far', '--all')
  assert.equal(back?.to, 'hot')
  assert.equal(back?.points.length, 3)
  for (const { problems } of await results('verify', 'shop', '--read-data')) assert.deepEqual(problems, [])
  for (const destination of ['hot', 'far']) {
    const to = join(home, `restored-${destination}`)
    await results('restore', 'shop/files', '--to', to, '--destination', destination)
    assert.equal(await readFile(join(to, 'data/8'), 'utf8').catch(() => readFile(join(to, '8'), 'utf8')), 'changed too')
    assert.equal(await readFile(join(to, 'data/7'), 'utf8').catch(() => readFile(join(to, '7'), 'utf8')), 'changed')
  }
  const wrong = await regain('replicate', 'shop', '--to', 'hot')
  assert.equal(wrong.status, 2)
})

test('what a destination lost is brought back from the other one, and every restore from it is as before', async () => {
  await rm(home, { recursive: true })
  await mkdir(join(home, 'data'), { recursive: true })
  for (let i = 0; i < 50; i++) await writeFile(join(home, `data/${i}`), `file ${i}\n`.repeat(i * 1000))
  await writeFile(
    join(home, 'regain.yaml'),
    `version: 1
destinations: { hot: { type: local, path: hot }, far: { type: local, path: far } }
keys: { main: { type: file, path: main.key } }
services:
  shop:
    owner: tests
    environment: development
    destinations: [hot, far]
    sources: { files: { type: files, paths: [data] } }
    schedule: { full: "0 2 * * *" }
    retention: { daily: 7 }
`,
  )
  await results('init', '--yes')
  await results('backup', 'shop')
  await writeFile(join(home, 'data/7'), 'changed')
  await results('backup', 'shop')

  // Half of the packs are gone, a bit is flipped in each of the others.
  for (const [i, pack] of (await packsOf('hot')).entries()) {
    if (i % 2 === 0) {
      await rm(pack)
      continue
    }
    const bytes = await readFile(pack)
    bytes[bytes.length >> 1]! ^= 1
    await writeFile(pack, bytes)
  }
  const planned = await regain('repository', 'repair', 'shop', '--destination', 'hot', '--read-data', '--dry-run')
  assert.equal(planned.status, 0, planned.stderr)
  assert.equal((await regain('verify', 'shop', '--read-data')).status, 4, 'a plan changes nothing')
  assert.equal((await regain('repository', 'repair', 'shop', '--destination', 'hot', '--from', 'hot')).status, 2)
  assert.equal((await regain('repository', 'repair', 'shop', '--from', 'farr')).status, 2)

  // Away, it is passed over, unless it was asked for.
  await rename(join(home, 'far'), join(home, 'unplugged'))
  const alone = await regain('repository', 'repair', 'shop', '--destination', 'hot', '--read-data')
  assert.equal(alone.status, 4)
  assert.ok(
    alone.lines.some(({ type }) => type === 'warning'),
    alone.stderr,
  )
  assert.equal((await regain('repository', 'repair', 'shop', '--destination', 'hot', '--from', 'far')).status, 10)
  await rename(join(home, 'unplugged'), join(home, 'far'))

  const [repaired] = await results('repository', 'repair', 'shop', '--destination', 'hot', '--read-data')
  const { fetched, left } = repaired as unknown as { fetched: { from: string; chunks: number }[]; left: unknown[] }
  assert.deepEqual(left, [])
  assert.deepEqual(
    fetched.map(({ from, chunks }) => [from, chunks > 50]),
    [['far', true]],
  )
  for (const { problems } of await results('verify', 'shop', '--read-data')) assert.deepEqual(problems, [])
  await rename(join(home, 'far'), join(home, 'unplugged'))
  const [listed] = await results('points', 'shop', '--destination', 'hot')
  const [
    {
      points: [older, newer],
    },
  ] = (listed as unknown as { sources: [Line] }).sources as [Line]
  for (const [point, seventh] of [
    [older, 'file 7\n'.repeat(7000)],
    [newer, 'changed'],
  ] as const) {
    const to = join(home, `restored-${point?.id}`)
    await results('restore', 'shop/files', '--to', to, '--at', point?.id ?? '', '--destination', 'hot')
    for (let i = 0; i < 50; i++)
      assert.equal(await readFile(join(to, `${i}`), 'utf8'), i === 7 ? seventh : `file ${i}\n`.repeat(i * 1000))
  }
})

async function packsOf(destination: string): Promise<string[]> {
  const folder = join(home, destination, 'shop/packs')
  const found: string[] = []
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) found.push(join(entry.parentPath, entry.name))
  return found.sort()
}
