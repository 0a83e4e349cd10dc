import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
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
