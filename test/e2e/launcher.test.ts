import assert from 'node:assert/strict'
import { existsSync, watch } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { runCommand, startCommand } from '../support/command.ts'

/** The launcher on a fresh clone: with npm's real installation, which takes a while. */

const ROOT = join(import.meta.dirname, '../..')
const NOBODY = 65_534

let home: string
before(async () => {
  home = await mkdtemp(join(tmpdir(), 'regain-launcher-'))
  await chmod(home, 0o755)
})
after(() => rm(home, { recursive: true }))

/** What a clone holds of what a start needs. */
async function freshClone(name: string): Promise<string> {
  const clone = join(home, name)
  await mkdir(clone)
  for (const part of ['regain', 'package.json', 'package-lock.json', 'src']) {
    await cp(join(ROOT, part), join(clone, part), { recursive: true })
  }
  return clone
}

/** A PATH with what any system has, and no npm. */
async function pathWithoutNpm(): Promise<string> {
  const folder = join(home, 'bin')
  await mkdir(folder, { recursive: true })
  for (const program of ['cmp', 'readlink', 'sh', 'flock', 'env']) {
    const { stdout } = await runCommand('/bin/sh', ['-c', `command -v ${program}`])
    const link = join(folder, program)
    if (!existsSync(link)) await symlink(stdout.trim(), link)
  }
  return folder
}

test('a first start installs what is missing: after one that was killed, two at once, through links', async () => {
  const clone = await freshClone('clone')
  const launcher = join(clone, 'regain')

  const appeared = new Promise<void>((resolve) => {
    const watcher = watch(clone, (_, name) => {
      if (name !== 'node_modules') return
      watcher.close()
      resolve()
    })
  })
  const killed = startCommand(launcher, ['--version'], { detached: true })
  await appeared
  process.kill(-killed.child.pid!, 'SIGKILL')
  assert.equal((await killed.result).status, null)

  await symlink(launcher, join(home, 'regain-1'))
  await symlink('regain-1', join(home, 'regain-2'))
  const results = await Promise.all(
    [launcher, join(home, 'regain-2')].map((program) => runCommand(program, ['--version'], { cwd: home })),
  )
  for (const { status, stdout, stderr } of results) {
    assert.equal(status, 0, stderr)
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/)
  }
  assert.ok(results.some(({ stderr }) => stderr.startsWith('regain: installing dependencies')))

  // Nothing is installed on later starts: there is no npm to do it with.
  const later = await runCommand(launcher, ['--version'], { env: { PATH: await pathWithoutNpm() } })
  assert.deepEqual([later.status, later.stderr], [0, ''])
})

describe('what cannot be installed is said', () => {
  test('without npm', async () => {
    const clone = await freshClone('no-npm')
    const { status, stdout, stderr } = await runCommand(join(clone, 'regain'), ['--version'], {
      env: { PATH: await pathWithoutNpm() },
    })
    assert.equal(status, 1)
    assert.equal(stdout, '')
    assert.match(stderr, /there is no npm.*\n.*apt-get install nodejs npm/)
  })

  test('in a checkout of somebody else', async (context) => {
    const clone = await freshClone('read-only')
    await chmod(clone, 0o555)
    const isRoot = process.getuid?.() === 0
    // Root may write anywhere, so somebody else starts it.
    const user = isRoot ? { uid: NOBODY, gid: NOBODY } : {}
    if (isRoot && (await runCommand('test', ['-r', clone], user)).status !== 0) {
      return context.skip('the temporary folder is reachable for root only')
    }
    const { status, stderr } = await runCommand(join(clone, 'regain'), ['--version'], user)
    await chmod(clone, 0o755)
    assert.equal(status, 5)
    assert.match(stderr, /you may not write in .*\n.*npm ci --omit=dev/)
  })
})
