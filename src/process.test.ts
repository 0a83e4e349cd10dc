import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { it } from 'node:test'
import { thisProcess } from './process.ts'

it('tells a process that lives from one that ended, and from those of which nothing can be known here', async () => {
  const own = thisProcess().process
  assert.ok(own)
  assert.equal(own.isAlive(own.identity), true)
  const script = `import { thisProcess } from ${JSON.stringify(new URL('./process.ts', import.meta.url).href)}
    console.log(thisProcess().process.identity)
    process.stdin.resume()`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const identity = line.toString().trim()
  assert.notEqual(identity, own.identity)
  assert.equal(own.isAlive(identity), true)
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.equal(own.isAlive(identity), false)
  // Another process that got the same number.
  assert.equal(own.isAlive(own.identity.replace(/\d+$/, '7')), false)
  const [boot = ''] = own.identity.split(' ')
  assert.equal(own.isAlive(own.identity.replace(boot, '00000000-0000-0000-0000-000000000000')), null)
  assert.equal(own.isAlive(own.identity.replace(/pid:\[\d+\]/, 'pid:[1]')), null)
  assert.equal(own.isAlive(''), null)
})
