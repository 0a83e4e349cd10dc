import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { runCommand } from './commands.ts'

const directory = mkdtempSync(join(tmpdir(), 'regain-commands-'))
after(() => rmSync(directory, { recursive: true }))
const limitMs = 60_000

test('a command that ends well says nothing', async () => {
  assert.equal(await runCommand('echo fine; exit 0', { limitMs }), null)
})

test('a command that fails tells its status and what it said last', async () => {
  assert.equal(await runCommand('echo one; echo two >&2; exit 3', { limitMs }), 'ended with status 3, saying: one\ntwo')
  assert.equal(await runCommand('exit 1', { limitMs }), 'ended with status 1')
  assert.equal(await runCommand('kill -USR1 $$', { limitMs }), 'was ended by SIGUSR1')
  assert.match(
    (await runCommand('no-such-program-here', { limitMs })) ?? '',
    /status 127, saying: .*no-such-program-here/s,
  )
})

test('a flood of output is cut, its end kept', async () => {
  const failure = (await runCommand('seq 1 200000; exit 1', { limitMs })) ?? ''
  assert.ok(failure.length < 5000, `${failure.length}`)
  assert.match(failure, /199999\n200000$/)
})

test('a command that takes too long is ended, with all that it started', { timeout: 30_000 }, async () => {
  const started = join(directory, 'pid')
  const failure = await runCommand(`sleep 1000 & echo $! > ${started}; wait`, { limitMs: 300 })
  assert.match(failure ?? '', /did not end within 0.3 s/)
  await gone(Number(readFileSync(started, 'utf8')))
})

test('an interrupted command is ended at once', async () => {
  const controller = new AbortController()
  const running = runCommand('sleep 1000', { limitMs, signal: controller.signal })
  controller.abort()
  assert.match((await running) ?? '', /was interrupted/)
  assert.match((await runCommand('sleep 1000', { limitMs, signal: controller.signal })) ?? '', /was interrupted/)
})

test('a command may leave something running in the background', async () => {
  const marker = join(directory, 'background')
  assert.equal(await runCommand(`(sleep 1000 & echo $! > ${marker}); exit 0`, { limitMs }), null)
  assert.ok(existsSync(marker))
  process.kill(Number(readFileSync(marker, 'utf8')))
})

/** Resolves when the process has ended; a zombie, which nobody has waited for yet, has. The test's own limit bounds it. */
async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`) && !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) {
    await new Promise((resolve) => setImmediate(resolve))
  }
}
