import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, test } from 'node:test'
import type { DemoReport } from '../../src/demo/report.ts'

const launcher = join(import.meta.dirname, '..', '..', 'regain')
const scratch = mkdtempSync(join(tmpdir(), 'regain-e2e-demo-'))
// As root the database runs under another user, who must be able to get there.
chmodSync(scratch, 0o755)
after(() => rmSync(scratch, { recursive: true, force: true }))

/** Starts the demo with its places below `scratch`, so that what it leaves anywhere is seen. */
function demo(name: string, ...args: string[]) {
  const temporary = join(scratch, name)
  const child = spawn(launcher, ['demo', '--size', '40', '--dir', join(temporary, 'stage'), ...args], {
    env: { ...process.env, TMPDIR: temporary },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let story = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    story += text
  })
  const ended = once(child, 'close').then(([status]) => status as number | null)
  return { child, ended, temporary, output: () => output, story: () => story }
}

/** Processes whose command line or working directory lies below `directory`. */
function processesBelow(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        return line.includes(directory) ? [`${pid}: ${line}`] : []
      } catch {
        // It has ended since it was listed.
        return []
      }
    })
}

test('the demo protects, destroys, recovers and proves, and leaves nothing but its report', async () => {
  const { ended, temporary, output, story } = demo('whole', '--json')
  const status = await ended
  const lines = output().trim().split('\n')
  const result = JSON.parse(lines.at(-1) ?? '') as DemoReport & {
    type: string
    operation: string
    reportDirectory: string
  }
  assert.equal(status, 0, `${lines.at(-1)}\n${story()}`)
  assert.deepEqual([result.type, result.operation, result.passed], ['result', 'demo', true])

  const [one, two] = result.acts
  assert.ok(one && two)
  for (const act of [one, two]) {
    assert.deepEqual(
      act.proofs.filter(({ passed }) => !passed),
      [],
    )
    assert.ok(act.rtoMs > 0)
    const names = act.proofs.map(({ name }) => name)
    for (const name of ['table customers', 'table attachments', 'files and folders', 'content of every payment']) {
      assert.ok(names.includes(name), name)
    }
  }
  assert.ok(one.proofs.some(({ name }) => name === 'every commit up to the moment'))
  assert.ok(two.proofs.some(({ name }) => name === 'every commit that was called durable'))
  assert.equal(one.lostCommits, 0)
  assert.ok(result.moments.target < result.moments.dropped)
  assert.ok(result.moments.dropped < result.moments.durableUntil)
  assert.ok(result.acknowledged > 100)

  const stage = join(temporary, 'stage')
  assert.equal(result.reportDirectory, stage)
  assert.deepEqual(readdirSync(stage).sort(), ['acknowledged.tsv', 'report.html', 'report.json'])
  const written = JSON.parse(readFileSync(join(stage, 'report.json'), 'utf8')) as DemoReport
  assert.deepEqual(written.acts, result.acts)
  assert.match(readFileSync(join(stage, 'report.html'), 'utf8'), /Everything was brought back, and proven/)
  assert.equal(readFileSync(join(stage, 'acknowledged.tsv'), 'utf8').trim().split('\n').length, result.acknowledged)
  assert.deepEqual(readdirSync(temporary), ['stage'])
  assert.deepEqual(processesBelow(temporary), [])
})

test('interrupted in the middle it ends in order and leaves nothing', async () => {
  const { child, ended, temporary, story } = demo('interrupted')
  const lines = createInterface({ input: child.stderr })
  for await (const line of lines) if (line.includes('$ regain serve')) break
  child.stderr.resume()
  child.kill('SIGINT')
  assert.equal(await ended, 130, story())
  assert.deepEqual(processesBelow(temporary), [])
  const stage = join(temporary, 'stage')
  assert.deepEqual(existsSync(stage) ? readdirSync(stage) : [], [])
  assert.deepEqual(readdirSync(temporary), ['stage'])
})

test('it never touches a directory that holds something', async () => {
  const { ended, temporary, story } = demo('first-of-two', '--size', '1')
  assert.equal(await ended, 2, story())
  assert.ok(!existsSync(join(temporary, 'stage')))
  const child = spawn(launcher, ['demo', '--dir', join(import.meta.dirname)], { stdio: 'ignore' })
  const [status] = (await once(child, 'exit')) as [number]
  assert.equal(status, 6)
  assert.ok(existsSync(import.meta.filename))
})
