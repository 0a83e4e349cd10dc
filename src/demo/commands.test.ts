import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { isRegainError } from '../errors.ts'
import { type CommandRunner, runRegain, startRegain } from './commands.ts'
import { waitFor } from './wait.ts'

const scratch = mkdtempSync(join(tmpdir(), 'regain-commands-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

/** A runner whose "regain" is a script: what matters here is how any command's output and end are read. */
function runner(script: string, signal = new AbortController().signal): CommandRunner {
  const file = join(scratch, `${Math.abs(script.length * 31 + script.charCodeAt(5))}.mjs`)
  writeFileSync(file, script)
  return { regain: [process.execPath, file], directory: scratch, environment: { A: '1' }, signal, now: Date.now }
}

test('results and warnings are read from JSON lines, whatever else is printed', async () => {
  const script = `console.log('noise'); console.log(JSON.stringify({ type: 'progress' }))
    console.log(JSON.stringify({ type: 'warning', message: 'careful' }))
    console.log(JSON.stringify({ type: 'result', args: process.argv.slice(2), env: process.env.A, cwd: process.cwd() }))`
  const { results, warnings } = await runRegain(runner(script), ['backup', 'shop'])
  assert.deepEqual(results, [{ type: 'result', args: ['backup', 'shop', '--json'], env: '1', cwd: scratch }])
  assert.deepEqual(warnings, ['careful'])
})

test("a command's own error becomes ours, with its code and hint", async () => {
  const script = `console.log(JSON.stringify({ type: 'error', code: 'wrong-key', message: 'No.', hint: 'Look.' })); process.exitCode = 12`
  await assert.rejects(
    runRegain(runner(script), ['backup']),
    (error) => isRegainError(error, 'wrong-key') && error.message === 'regain backup: No.' && error.hint === 'Look.',
  )
})

test('a command that dies without a word is told with what it wrote to standard error', async () => {
  const script = `console.error('Segmentation fault'); process.exitCode = 3`
  await assert.rejects(runRegain(runner(script), ['verify']), /regain verify ended with status 3\. Segmentation fault/)
  const killed = `process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000)`
  await assert.rejects(runRegain(runner(killed), ['verify']), /regain verify ended by SIGKILL/)
})

test('an interruption ends the command in order and is told as one', async () => {
  const stop = new AbortController()
  const flag = join(scratch, 'flag')
  const script = `import { writeFileSync } from 'node:fs'
    process.on('SIGTERM', () => { writeFileSync(${JSON.stringify(flag)}, 'ended'); process.exit(130) })
    setInterval(() => {}, 1000); writeFileSync(${JSON.stringify(flag)}, 'begun')`
  const running = runRegain(runner(script, stop.signal), ['backup'])
  const reading = () => {
    try {
      return readFileSync(flag, 'utf8') || null
    } catch {
      return null
    }
  }
  await waitFor('the command', 10_000, new AbortController().signal, reading)
  stop.abort()
  await assert.rejects(running, (error) => isRegainError(error, 'interrupted'))
  assert.equal(reading(), 'ended')
})

test('a command in the background runs until it is ended, its output in a file', async () => {
  const log = join(scratch, 'serve.log')
  const script = `process.on('SIGTERM', () => process.exit(0)); setInterval(() => {}, 1000); console.error('serving')`
  const serve = await startRegain(runner(script), ['serve'], log)
  await waitFor('the command', 10_000, new AbortController().signal, () => readFileSync(log, 'utf8') || null)
  assert.equal(serve.ended(), null)
  assert.equal(await serve.end(), 0)
  assert.equal(await serve.end(), 0)
  assert.equal(serve.ended(), 'status 0')

  const killed = await startRegain(runner(script), ['serve'], log)
  await killed.kill()
  await killed.kill()
  assert.equal(killed.ended(), 'SIGKILL')
  assert.equal(await killed.end(), null)
})
