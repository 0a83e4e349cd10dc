import assert from 'node:assert/strict'
import { existsSync, watch } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { loadConfiguration } from '../../src/config/load.ts'
import { isRegainError } from '../../src/errors.ts'
import { drivers } from '../../src/main.ts'
import { pruneRepository } from '../../src/operations/prune.ts'
import { rekeyRepositories } from '../../src/operations/rekey.ts'
import { withRepository } from '../../src/operations/repositories.ts'
import { type FaultScript, withFaults } from '../../src/storage/fault.ts'
import { type CommandResult, jsonLines, LAUNCHER, runCommand, startCommand } from '../support/command.ts'
import { testAmbient } from '../support/repository.ts'

/** The command line as scripts and people use it: real processes, a real repository, real files. */

let home: string
before(async () => {
  home = await mkdtemp(join(tmpdir(), 'regain-cli-'))
})
after(() => rm(home, { recursive: true }))

/** What is read out of answers here; each assertion says what it expects of it. */
interface Answer {
  type: string
  operation: string
  service: string
  source: string
  target: string
  files: number
  durationMs: number
  gaveWayMs: number
  point: {
    id: string
    kind: string
    label: string
    complete: boolean
    startedAt: string
    committedAt: string
    positions: unknown
  }
  bytes: Record<string, number> | number
  missed: { path: string; reason: string }[]
  reached: string
}

function answer(line: Record<string, unknown> | undefined): Answer {
  assert.ok(line !== undefined)
  return line as unknown as Answer
}

let serial = 0
/** A folder of its own for one test. */
async function place(): Promise<string> {
  const folder = join(home, String(serial++))
  await mkdir(folder)
  return folder
}

function environment(): Record<string, string> {
  const { PATH = '' } = process.env
  return { PATH, HOME: home, XDG_STATE_HOME: join(home, 'state'), XDG_CACHE_HOME: join(home, 'cache'), LANG: 'C.UTF-8' }
}

function regain(cwd: string, ...args: string[]): Promise<CommandResult> {
  return runCommand(LAUNCHER, args, { cwd, env: environment() })
}

/** Runs with --json and gives the last line beside the status. */
async function json(cwd: string, ...args: string[]) {
  const { status, stdout, stderr } = await regain(cwd, ...args, '--json')
  const lines = jsonLines(stdout)
  return { status, lines, last: lines.at(-1) ?? assert.fail(`no line; standard error: ${stderr}`) }
}

const actionsOf = ({ steps }: Record<string, unknown>) => (steps as { action: string }[]).map(({ action }) => action)

async function largestPack(cwd: string): Promise<string> {
  const names = await readdir(join(cwd, 'backups/shop/packs'), { recursive: true, withFileTypes: true })
  const files = names.filter((name) => name.isFile()).map((name) => join(name.parentPath, name.name))
  const sizes = await Promise.all(files.map(async (file) => ({ file, size: (await stat(file)).size })))
  return sizes.toSorted((a, b) => b.size - a.size)[0]?.file ?? assert.fail('no pack')
}

/** A service with a folder of files, protected once. */
async function protectedPlace(): Promise<string> {
  const cwd = await place()
  await mkdir(join(cwd, 'data/sub'), { recursive: true })
  await writeFile(join(cwd, 'data/a.txt'), 'first\n')
  await writeFile(join(cwd, 'data/sub/b.bin'), Buffer.alloc(300_000, 7))
  await symlink('a.txt', join(cwd, 'data/link'))
  const init = await regain(cwd, 'init', '--yes', '--service', 'shop', '--files', 'data', '--destination', 'backups')
  assert.equal(init.status, 0, init.stderr)
  const backup = await regain(cwd, 'backup', 'shop')
  assert.equal(backup.status, 0, backup.stderr)
  return cwd
}

describe('usage', () => {
  test('--version says the version of the package and nothing else', async () => {
    const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../../package.json'), 'utf8'))
    assert.deepEqual(await regain(home, '--version'), { status: 0, stdout: `${version}\n`, stderr: '' })
  })

  test('help is data of its own command, on standard output', async () => {
    const { status, stdout, stderr } = await regain(home, 'restore', '--help')
    assert.equal(status, 0)
    assert.match(stdout, /--preview/)
    assert.match(stdout, /Examples:/)
    assert.equal(stderr, '')
  })

  test('mistakes in the command line exit 2 and say what would be right', async () => {
    const unknown = await regain(home, 'backpu', 'shop')
    assert.equal(unknown.status, 2)
    assert.match(unknown.stderr, /Did you mean backup/)
    assert.equal(unknown.stdout, '')
    for (const args of [[], ['backup'], ['backup', 'shop', '--fulll'], ['restore', 'shop'], ['points', 'a', 'b']]) {
      assert.equal((await regain(home, ...args)).status, 2, args.join(' '))
    }
  })

  test('a command that needs one of its commands names them, an example, and its own help', async () => {
    const cwd = home
    for (const [args, hint] of [
      [
        ['key'],
        /regain key needs one of its commands.*It has list, add, rotate.*regain key list shop.*regain key --help/s,
      ],
      [['repository', 'chek'], /Did you mean check\?.*regain repository check shop/s],
      [['log', '--config', 'key'], /regain log needs one of its commands.*regain log search shop\/db/s],
      [['key', 'add'], /missing required argument 'service'.*regain key add --help/s],
    ] as const) {
      const { status, stderr, stdout } = await regain(cwd, ...args)
      assert.deepEqual([status, stdout], [2, ''])
      assert.match(stderr, hint)
    }
  })

  test('with --json a mistake is one error line, wherever --json stands', async () => {
    const { status, lines } = await json(home, 'restore', 'shop', '--to', 'x', '--at', 'yesterday')
    assert.equal(status, 2)
    assert.equal(lines.length, 1)
    assert.deepEqual(Object.keys(lines[0]!), ['type', 'code', 'message', 'hint', 'retryable'])
    assert.equal(lines[0]!.code, 'usage')
    const first = await regain(home, '--json', 'backpu')
    assert.equal(jsonLines(first.stdout)[0]?.code, 'usage')
  })

  test('without a configuration: 2, and how to make one', async () => {
    const { status, last } = await json(await place(), 'points')
    assert.equal(status, 2)
    assert.equal(last.code, 'config-not-found')
    assert.match(String(last.hint), /regain init/)
  })

  test('what this version does not have is refused, not ignored', async () => {
    const cwd = await protectedPlace()
    for (const [args, message] of [
      [['drill', 'shop'], /not available in this version/],
      [['restore', 'shop', '--to', 'postgres://localhost/x'], /is files. Nothing was done/],
    ] as const) {
      const { status, last } = await json(cwd, ...args)
      assert.equal(status, 2, args.join(' '))
      assert.match(String(last.message), message)
    }
    assert.equal(existsSync(join(cwd, 'out')), false)
  })

  for (const shell of ['bash', 'zsh', 'fish']) {
    test(`the completion script for ${shell} is one`, async (context) => {
      const script = join(await place(), 'completion')
      const { status, stdout } = await regain(home, 'completion', shell)
      assert.equal(status, 0)
      for (const word of ['restore', '--preview', 'rotate']) assert.ok(stdout.includes(word.replace(/^--/, '')), word)
      const which = await runCommand('/bin/sh', ['-c', `command -v ${shell}`])
      if (which.status !== 0) return context.skip(`${shell} is not installed here`)
      await writeFile(script, stdout)
      const checked = await runCommand(shell, ['-n', script])
      assert.deepEqual(checked, { status: 0, stdout: '', stderr: '' })
    })
  }

  test('bash completes commands, subcommands and options', async () => {
    const { stdout: script } = await regain(home, 'completion', 'bash')
    const complete = async (...words: string[]) => {
      const call = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; _regain; echo "\${COMPREPLY[*]}"`
      return (await runCommand('bash', ['-c', `${script}\n${call}`])).stdout.trim()
    }
    assert.equal(await complete('regain', 'rest'), 'restore')
    assert.equal(await complete('regain', 'key', 'ex'), 'export')
    assert.equal(await complete('regain', 'restore', 'shop', '--pre'), '--preview')
  })
})

describe('init', () => {
  test('writes a configuration, a key for this user alone, and a repository; again changes nothing', async () => {
    const cwd = await place()
    await mkdir(join(cwd, 'data'))
    const first = await json(cwd, 'init', '--yes', '--files', 'data', '--destination', 'backups')
    assert.equal(first.status, 0)
    assert.equal(first.last.isNewConfig, true)
    assert.equal((await stat(join(cwd, 'main.key'))).mode & 0o777, 0o600)
    const before = await Promise.all(['regain.yaml', 'main.key'].map((name) => readFile(join(cwd, name), 'utf8')))

    const second = await json(cwd, 'init', '--yes', '--files', 'elsewhere')
    assert.equal(second.status, 0)
    assert.equal(second.last.isNewConfig, false)
    assert.deepEqual(second.last.newKeys, [])
    assert.ok(second.lines.some(({ type }) => type === 'warning'))
    const after = await Promise.all(['regain.yaml', 'main.key'].map((name) => readFile(join(cwd, name), 'utf8')))
    assert.deepEqual(after, before)
    const check = await regain(cwd, 'check')
    assert.equal(check.status, 0, check.stdout)
  })

  test('what it writes is a valid configuration, whatever it protects', async () => {
    for (const [url, stored] of [
      ['postgres://regain@127.0.0.1:5999/postgres', null],
      ['${SHOP_URL}', null],
      ['postgres://regain:hunter2@127.0.0.1:5999/postgres', 'app-db.url'],
    ] as const) {
      const cwd = await place()
      const init = await regain(
        cwd,
        'init',
        '--yes',
        '--postgres',
        url,
        '--files',
        'a "b"',
        'c: d',
        '--destination',
        'x',
      )
      assert.equal(init.status, 0, init.stderr)
      assert.doesNotMatch(await readFile(join(cwd, 'regain.yaml'), 'utf8'), /hunter2/)
      const show = await json(cwd, 'config', 'show')
      const { services } = show.last.configuration as {
        services: Record<string, { sources: Record<string, { paths?: string[] }> }>
      }
      assert.deepEqual(services.app?.sources.files?.paths, [join(cwd, 'a "b"'), join(cwd, 'c: d')])
      if (stored === null) continue
      assert.equal(await readFile(join(cwd, stored), 'utf8'), `${url}\n`)
      assert.equal((await stat(join(cwd, stored))).mode & 0o777, 0o600)
    }
  })

  test('a failure leaves nothing behind', async () => {
    const cwd = await place()
    for (const args of [
      ['--service', 'No Name', '--files', 'x'],
      ['--postgres', 'mysql://x'],
    ]) {
      assert.equal((await regain(cwd, 'init', '--yes', ...args)).status, 2)
    }
    assert.deepEqual(await readdir(cwd), [])
  })

  test('a lost key is not replaced while a repository needs it', async () => {
    const cwd = await protectedPlace()
    await rename(join(cwd, 'main.key'), join(cwd, 'copy.key'))
    const { status, last } = await json(cwd, 'init', '--yes')
    assert.equal(status, 12)
    assert.equal(last.code, 'key-unavailable')
    assert.equal(existsSync(join(cwd, 'main.key')), false)
  })
})

describe('backup and restore', () => {
  test('the results that programs rely on', async () => {
    const cwd = await protectedPlace()
    const backup = await json(cwd, 'backup', 'shop/files', '--label', 'before 2.0')
    assert.equal(backup.status, 0)
    const { type, operation, service, source, point, bytes, files, durationMs, gaveWayMs, missed } = answer(backup.last)
    assert.deepEqual([type, operation, service, source, missed], ['result', 'backup', 'shop', 'files', []])
    assert.match(point.id, /^[0-9a-f]{32}$/)
    assert.equal(point.kind, 'incremental')
    assert.equal(point.label, 'before 2.0')
    assert.equal(point.complete, true)
    for (const time of [point.startedAt, point.committedAt]) assert.equal(new Date(time).toISOString(), time)
    assert.equal(typeof point.positions, 'object')
    assert.deepEqual(Object.keys(bytes), ['source', 'read', 'new', 'stored'])
    assert.equal(Object(bytes).source, 300_006)
    assert.equal(typeof files, 'number')
    assert.equal(typeof durationMs, 'number')
    // Files give way only if the configuration says so.
    assert.equal(gaveWayMs, 0)
    for (const line of backup.lines.slice(0, -1)) assert.ok(['progress', 'warning'].includes(String(line.type)))

    const points = await json(cwd, 'points', 'shop')
    const [listed] = points.last.sources as { points: { id: string }[]; windows: unknown }[]
    assert.equal(listed?.points.length, 2)
    assert.equal(listed?.points[1]?.id, point.id)
    assert.equal(listed?.windows, null)

    const restore = await json(cwd, 'restore', 'shop', '--to', 'out')
    assert.equal(restore.status, 0)
    const result = answer(restore.last)
    assert.deepEqual([result.type, result.operation, result.target], ['result', 'restore', join(cwd, 'out')])
    assert.equal(result.point.id, point.id)
    assert.equal(result.bytes, 300_006)
    assert.ok(!Number.isNaN(Date.parse(result.reached)))
    const same = await runCommand('diff', ['-r', 'data', 'out'], { cwd })
    assert.deepEqual(same, { status: 0, stdout: '', stderr: '' })
  })

  test('an application that was left frozen: the point is there, and the status is 1', async () => {
    const cwd = await protectedPlace()
    const path = join(cwd, 'regain.yaml')
    const yaml = await readFile(path, 'utf8')
    await writeFile(path, yaml.replace(/^( *)type: files$/m, '$1type: files\n$1before: "true"\n$1after: "exit 7"'))
    const { status, lines } = await json(cwd, 'backup', 'shop')
    assert.equal(status, 1)
    const [result, error] = lines.slice(-2)
    assert.deepEqual([result?.type, Object(result?.point).complete], ['result', true])
    assert.deepEqual([error?.type, error?.code, error?.source], ['error', 'source-not-resumed', 'files'])
    const told = await regain(cwd, 'backup', 'shop')
    assert.equal(told.status, 1)
    assert.match(told.stderr, /AFTER COMMAND ended with status 7/)
    const points = (await json(cwd, 'points')).last.sources as { points: unknown[] }[]
    assert.equal(points[0]?.points.length, 3)
  })

  test('a folder that held files and holds none: incomplete, 3, until there are files again', async () => {
    const cwd = await protectedPlace()
    await rename(join(cwd, 'data'), join(cwd, 'unmounted'))
    await mkdir(join(cwd, 'data'))
    for (let night = 1; night <= 2; night++) {
      const { status, last } = await json(cwd, 'backup', 'shop', ...(night === 2 ? ['--full'] : []))
      assert.equal(status, 3, `night ${night}`)
      const [missed] = last.missed as { path: string; reason: string; detail: string }[]
      assert.deepEqual([missed?.path, missed?.reason], ['', 'vanished'])
      assert.match(missed?.detail ?? '', /Is its file system mounted/)
    }
    await rm(join(cwd, 'data'), { recursive: true })
    await rename(join(cwd, 'unmounted'), join(cwd, 'data'))
    assert.equal((await json(cwd, 'backup', 'shop')).status, 0)
  })

  test('an earlier moment, an id, a preview that does nothing', async () => {
    const cwd = await protectedPlace()
    const before = (await json(cwd, 'points')).last.sources as { points: { id: string; committedAt: string }[] }[]
    const first = before[0]!.points[0]!
    await writeFile(join(cwd, 'data/a.txt'), 'second\n')
    assert.equal((await regain(cwd, 'backup', 'shop')).status, 0)

    assert.equal((await regain(cwd, 'restore', 'shop', '--to', 'time', '--at', first.committedAt)).status, 0)
    assert.equal(await readFile(join(cwd, 'time/a.txt'), 'utf8'), 'first\n')
    assert.equal((await regain(cwd, 'restore', 'shop', '--to', 'id', '--at', first.id.slice(0, 8))).status, 0)
    assert.equal(await readFile(join(cwd, 'id/a.txt'), 'utf8'), 'first\n')
    assert.equal((await regain(cwd, 'restore', 'shop', '--to', 'latest')).status, 0)
    assert.equal(await readFile(join(cwd, 'latest/a.txt'), 'utf8'), 'second\n')
    const preview = await regain(cwd, 'restore', 'shop', '--to', 'preview', '--preview')
    assert.equal(preview.status, 0)
    assert.match(preview.stdout, /pin the point/)
    assert.equal(existsSync(join(cwd, 'preview')), false)
    assert.equal((await regain(cwd, 'restore', 'shop', '--to', 'one', '--path', 'sub/*.bin')).status, 0)
    assert.deepEqual(await readdir(join(cwd, 'one')), ['sub'])

    const early = await json(cwd, 'restore', 'shop', '--to', 'early', '--at', '2001-01-01T00:00:00Z')
    assert.deepEqual([early.status, early.last.code], [6, 'moment-unreachable'])
    const none = await json(cwd, 'restore', 'shop', '--to', 'none', '--at', 'ffffffffffff')
    assert.deepEqual([none.status, none.last.code], [6, 'point-not-found'])
    assert.equal(existsSync(join(cwd, 'early')), false)
  })

  test('a target that holds anything is left alone: 6', async () => {
    const cwd = await protectedPlace()
    await mkdir(join(cwd, 'full'))
    await writeFile(join(cwd, 'full/mine'), 'mine')
    const { status, last } = await json(cwd, 'restore', 'shop', '--to', 'full')
    assert.deepEqual([status, last.code], [6, 'target-not-empty'])
    assert.deepEqual(await readdir(join(cwd, 'full')), ['mine'])
    await mkdir(join(cwd, 'empty'))
    assert.equal((await regain(cwd, 'restore', 'shop', '--to', 'empty')).status, 0)
  })

  test('ls, cat and diff look into points', async () => {
    const cwd = await protectedPlace()
    await writeFile(join(cwd, 'data/a.txt'), 'second\n')
    await writeFile(join(cwd, 'data/new'), '')
    await rm(join(cwd, 'data/link'))
    await chmod(join(cwd, 'data/sub/b.bin'), 0o600)
    assert.equal((await regain(cwd, 'backup', 'shop')).status, 0)
    const sources = (await json(cwd, 'points')).last.sources as { points: { id: string }[] }[]
    const [from, to] = sources[0]!.points.map(({ id }) => id.slice(0, 8)) as [string, string]

    const ls = await regain(cwd, 'ls', from)
    assert.deepEqual(
      ls.stdout
        .trim()
        .split('\n')
        .map((line) => line.split(/Z /)[1]),
      ['a.txt', 'link -> a.txt', 'sub'],
    )
    assert.match((await regain(cwd, 'ls', 'shop', 'sub')).stdout, /^-rw------- .* 300000 .* sub\/b\.bin\n$/)
    assert.equal((await regain(cwd, 'cat', from, 'a.txt')).stdout, 'first\n')
    assert.equal((await regain(cwd, 'cat', 'shop/files', '/a.txt')).stdout, 'second\n')
    assert.equal((await regain(cwd, 'cat', 'shop', 'none')).status, 6)
    assert.equal((await regain(cwd, 'cat', 'shop', 'sub')).status, 2)
    const diff = await json(cwd, 'diff', from, to)
    const changes = diff.lines
      .filter(({ type }) => type === 'difference')
      .map(({ change, path }) => `${change} ${path}`)
    assert.deepEqual(changes, ['attributes ', 'content a.txt', 'removed link', 'added new', 'attributes sub/b.bin'])
  })

  test('a reader that goes away is no error', async () => {
    const cwd = await protectedPlace()
    await mkdir(join(cwd, 'data/many'))
    for (let i = 0; i < 3000; i++) await writeFile(join(cwd, `data/many/${'long'.repeat(20)}${i}`), '')
    assert.equal((await regain(cwd, 'backup', 'shop')).status, 0)
    const script = 'set -o pipefail; "$0" ls shop -r | head -n 1'
    const { status, stderr } = await runCommand('bash', ['-c', script, LAUNCHER], { cwd, env: environment() })
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' })
  })
})

describe('what goes wrong', () => {
  test('what could not be read is missing, named, and makes it 3', async (context) => {
    const cwd = await protectedPlace()
    const secret = join(cwd, 'data/secret')
    await writeFile(secret, 'x')
    await chmod(secret, 0o000)
    let options = { cwd, env: environment() } as {
      cwd: string
      env: Record<string, string>
      uid?: number
      gid?: number
    }
    if (process.getuid?.() === 0) {
      // Nothing is unreadable for root, so somebody else backs up: with everything of the place made theirs.
      const nobody = 65_534
      const main = join(import.meta.dirname, '../../src/main.ts')
      if ((await runCommand('test', ['-r', main], { uid: nobody, gid: nobody })).status !== 0) {
        return context.skip('this checkout lies where only root can reach it')
      }
      await chmod(home, 0o755)
      await runCommand('chown', ['-R', `${nobody}:${nobody}`, cwd])
      await runCommand('chown', ['root', secret])
      options = {
        ...options,
        uid: nobody,
        gid: nobody,
        env: { ...environment(), HOME: cwd, XDG_STATE_HOME: cwd, XDG_CACHE_HOME: cwd },
      }
    }
    const { status, stdout } = await runCommand(LAUNCHER, ['backup', 'shop', '--json'], options)
    const last = answer(jsonLines(stdout).at(-1))
    assert.equal(status, 3)
    assert.equal(last.point.complete, false)
    assert.deepEqual(
      last.missed.map(({ path, reason }) => `${reason} ${path}`),
      ['unreadable secret'],
    )
    const human = await runCommand(LAUNCHER, ['backup', 'shop', '--quiet'], options)
    assert.equal(human.status, 3)
    assert.match(human.stderr, /INCOMPLETE: 1 thing missing.*\n.*secret: unreadable/)
  })

  test('no repository: 10; after init it is there', async () => {
    const cwd = await protectedPlace()
    await rename(join(cwd, 'backups'), join(cwd, 'gone'))
    for (const args of [
      ['points'],
      ['backup', 'shop'],
      ['verify', 'shop'],
      ['restore', 'shop', '--to', 'out'],
      ['ls', 'shop'],
    ]) {
      const { status, last } = await json(cwd, ...args)
      assert.deepEqual([status, last.code], [10, 'repository-not-found'], args.join(' '))
    }
    const check = await json(cwd, 'check')
    assert.equal(check.status, 6)
  })

  test('a key that others may read is a warning of check', async () => {
    const cwd = await protectedPlace()
    const codes = async () => {
      const { status, last } = await json(cwd, 'check')
      return [status, (last.findings as { code: string }[]).some(({ code }) => code === 'key-exposed')]
    }
    assert.deepEqual(await codes(), [0, false])
    await chmod(join(cwd, 'main.key'), 0o644)
    assert.deepEqual(await codes(), [0, true])
  })

  test('a wrong key: 12; a missing key: 12', async () => {
    const cwd = await protectedPlace()
    const other = await protectedPlace()
    await rename(join(cwd, 'main.key'), join(cwd, 'right.key'))
    const missing = await json(cwd, 'points')
    assert.deepEqual([missing.status, missing.last.code], [12, 'key-unavailable'])
    await writeFile(join(cwd, 'main.key'), await readFile(join(other, 'main.key')), { mode: 0o600 })
    const wrong = await json(cwd, 'points')
    assert.deepEqual([wrong.status, wrong.last.code], [12, 'wrong-key'])
  })

  test('a flipped byte: verify --read-data finds it and exits 4', async () => {
    const cwd = await protectedPlace()
    const pack = await largestPack(cwd)
    const bytes = await readFile(pack)
    bytes[bytes.length >> 1]! ^= 1
    await writeFile(pack, bytes)
    const { status, last } = await json(cwd, 'verify', 'shop', '--read-data')
    assert.equal(status, 4)
    assert.equal((last.problems as unknown[]).length > 0, true)
    const restore = await regain(cwd, 'restore', 'shop', '--to', 'out')
    assert.ok([3, 4].includes(restore.status ?? 0), restore.stderr)
  })

  test('repository repair: a dry run does nothing, a repair and a backup mend what the source still has', async () => {
    const cwd = await protectedPlace()
    await rm(join(cwd, 'backups/shop/index'), { recursive: true })
    const restore = await json(cwd, 'restore', 'shop', '--to', 'out')
    assert.equal(restore.status, 0)
    assert.ok(restore.lines.some(({ message }) => String(message).includes('regain repository repair shop')))
    const index = await json(cwd, 'repository', 'repair', 'shop', '--dry-run')
    assert.deepEqual([index.status, actionsOf(index.last), index.last.left], [0, ['index-packs'], []])
    assert.equal(existsSync(join(cwd, 'backups/shop/index')), false)
    assert.equal((await regain(cwd, 'repository', 'repair', 'shop')).status, 0)
    assert.equal((await regain(cwd, 'verify', 'shop')).status, 0)

    const pack = await largestPack(cwd)
    const bytes = await readFile(pack)
    bytes[bytes.length >> 1]! ^= 1
    await writeFile(pack, bytes)

    const dry = await json(cwd, 'repository', 'repair', 'shop', '--read-data', '--dry-run')
    assert.equal(dry.status, 4)
    assert.deepEqual(actionsOf(dry.last), ['set-aside-packs'])
    const repair = await regain(cwd, 'repository', 'repair', 'shop', '--read-data')
    assert.equal(repair.status, 4)
    assert.match(repair.stderr, /Set 1 pack aside/)
    assert.match(repair.stderr, /hurts point/)
    assert.match(repair.stderr, /regain backup shop/)
    assert.equal((await regain(cwd, 'backup', 'shop')).status, 0)
    assert.equal((await regain(cwd, 'verify', 'shop', '--read-data')).status, 0)
    const again = await json(cwd, 'repository', 'repair', 'shop', '--read-data')
    assert.deepEqual([again.status, again.last.steps, again.last.left], [0, [], []])
    assert.equal((await regain(cwd, 'restore', 'shop', '--to', 'whole')).status, 0)
    assert.ok((await readFile(join(cwd, 'whole/sub/b.bin'))).equals(Buffer.alloc(300_000, 7)))
  })

  test('a store that was set back, or exchanged, is told until it is accepted', async () => {
    const cwd = await protectedPlace()
    await cp(join(cwd, 'backups'), join(cwd, 'earlier'), { recursive: true })
    await writeFile(join(cwd, 'data/a.txt'), 'second\n')
    const newest = answer((await json(cwd, 'backup', 'shop')).last).point.id
    assert.equal((await regain(cwd, 'verify', 'shop')).status, 0)

    await rm(join(cwd, 'backups'), { recursive: true })
    await rename(join(cwd, 'earlier'), join(cwd, 'backups'))
    const points = await regain(cwd, 'points', 'shop')
    assert.equal(points.status, 0)
    assert.match(points.stderr, new RegExp(`${newest} .* set back`))
    const backup = await json(cwd, 'backup', 'shop')
    assert.equal(backup.status, 0)
    assert.match(String((backup.last.warnings as string[])[0]), new RegExp(newest))
    const verify = await json(cwd, 'verify', 'shop')
    assert.equal(verify.status, 4)
    assert.deepEqual(
      (verify.last.problems as { object: string }[]).map(({ object }) => object),
      [`ends/${newest}`],
    )
    const accepted = await json(cwd, 'repository', 'repair', 'shop', '--accept-loss')
    assert.deepEqual([accepted.status, accepted.last.accepted], [0, [newest]])
    assert.equal((await regain(cwd, 'verify', 'shop')).status, 0)

    // Another one, which this machine did not make.
    await rename(join(cwd, 'backups/shop'), join(cwd, 'kept'))
    const elsewhere = { ...environment(), XDG_STATE_HOME: join(cwd, 'other-state') }
    const made = await runCommand(LAUNCHER, ['repository', 'init'], { cwd, env: elsewhere })
    assert.equal(made.status, 0, made.stderr)
    const other = await json(cwd, 'backup', 'shop')
    assert.match(String((other.last.warnings as string[])[0]), /not the one that this machine saw/)
    assert.equal((await regain(cwd, 'verify', 'shop')).status, 4)
    assert.equal((await regain(cwd, 'repository', 'repair', 'shop', '--accept-loss')).status, 0)
    assert.equal((await json(cwd, 'backup', 'shop')).last.warnings, undefined)

    // One that this machine makes is told when it is made, and is the one to expect from then on.
    await rm(join(cwd, 'backups/shop'), { recursive: true })
    const anew = await regain(cwd, 'repository', 'init')
    assert.equal(anew.status, 0)
    assert.match(anew.stderr, /saw another one before/)
    assert.equal((await json(cwd, 'backup', 'shop')).last.warnings, undefined)
    assert.equal((await regain(cwd, 'verify', 'shop')).status, 0)
  })

  test('a lost state directory costs no point and stores nothing again', async () => {
    const cwd = await protectedPlace()
    await rm(join(home, 'state'), { recursive: true })
    const { status, last, lines } = await json(cwd, 'backup', 'shop')
    assert.equal(status, 0)
    assert.equal((last.bytes as { new: number }).new, 0)
    assert.deepEqual(
      lines.filter(({ type }) => type === 'warning'),
      [],
    )
    const { sources } = (await json(cwd, 'points')).last as { sources?: { points: unknown[] }[] }
    assert.equal(sources?.[0]?.points.length, 2)
    assert.equal((await regain(cwd, 'verify', 'shop', '--read-data')).status, 0)
  })

  test('a newest point that is lost is told, not passed over in silence', async () => {
    const cwd = await protectedPlace()
    await writeFile(join(cwd, 'data/a.txt'), 'second\n')
    const { last } = await json(cwd, 'backup', 'shop')
    const ends = join(cwd, 'backups/shop/ends')
    await rm(join(ends, answer(last).point.id))
    const restore = await json(cwd, 'restore', 'shop', '--to', 'older')
    assert.equal(restore.status, 0)
    const warnings = restore.lines.filter(({ type }) => type === 'warning').map(({ message }) => String(message))
    assert.ok(
      warnings.some((message) => message.includes(`${answer(last).point.id} was committed and is gone`)),
      warnings.join('\n'),
    )
    assert.match((await regain(cwd, 'points')).stderr, /was committed and is gone/)
  })

  test('one destination failing does not keep the other from its point, and the last line says so', async () => {
    const cwd = await protectedPlace()
    const config = await readFile(join(cwd, 'regain.yaml'), 'utf8')
    const second = config
      .replace('  # other: { type: local, path: /mnt/backup }', '  other: { type: local, path: nowhere }')
      .replace('destinations: [local]', 'destinations: [other, local]')
    await writeFile(join(cwd, 'regain.yaml'), second)
    const { status, lines, last } = await json(cwd, 'backup', 'shop')
    assert.equal(status, 10)
    assert.deepEqual([last.type, last.destination, last.code], ['error', 'other', 'repository-not-found'])
    assert.ok(lines.some(({ type, destination }) => type === 'result' && destination === 'local'))
    // Reading does without the one that is away, and says so.
    const points = await json(cwd, 'points')
    assert.equal(points.status, 0)
    assert.ok(
      points.lines.some(({ type, message }) => type === 'warning' && /other could not be read/.test(String(message))),
    )
    assert.equal((await regain(cwd, 'init', '--yes')).status, 0)
    assert.equal((await regain(cwd, 'backup', 'shop')).status, 0)
  })

  test('interrupted: 130 within seconds, nothing half visible, and the next run works', async () => {
    const cwd = await protectedPlace()
    const config = join(cwd, 'regain.yaml')
    const text = await readFile(config, 'utf8')
    await writeFile(
      config,
      text.replace(/paths: (.*)/, `paths: $1\n        before: "touch ${cwd}/begun; exec sleep 600"`),
    )
    const begun = new Promise<void>((resolve) => {
      const watcher = watch(cwd, (_, name) => {
        if (name !== 'begun') return
        watcher.close()
        resolve()
      })
    })
    const { child, result } = startCommand(LAUNCHER, ['backup', 'shop', '--json'], { cwd, env: environment() })
    await begun
    child.kill('SIGINT')
    const { status, stdout } = await result
    assert.equal(status, 130)
    assert.equal(jsonLines(stdout).at(-1)?.code, 'interrupted')
    await writeFile(config, text)
    const sources = (await json(cwd, 'points')).last.sources as { points: unknown[] }[]
    assert.equal(sources[0]?.points.length, 1)
    assert.equal((await regain(cwd, 'backup', 'shop')).status, 0)
  })

  test('what nobody caught is told as the bug it is: 1', async () => {
    const cwd = await protectedPlace()
    const boom = `process.on('newListener',(name)=>{if(name==='uncaughtException')setImmediate(()=>Promise.reject(Error('boom')))})`
    const env = { ...environment(), NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(boom)}` }
    const { status, stdout, stderr } = await runCommand(LAUNCHER, ['points', '--json'], { cwd, env })
    assert.equal(status, 1)
    assert.equal(jsonLines(stdout).at(-1)?.code, 'internal')
    assert.match(stderr, /An unexpected error: boom\n.*bug in Regain/)
  })

  test('output that cannot be written is no success', async () => {
    const cwd = await protectedPlace()
    // Much output and little: a key that is exported into a full disk would be missed one day.
    for (const command of ['cat shop sub/b.bin', 'key export shop', 'points', 'points --json', '--help']) {
      const script = `"$0" ${command} > /dev/full`
      const { status, stderr } = await runCommand('bash', ['-c', script, LAUNCHER], { cwd, env: environment() })
      assert.equal(status, 1, command)
      if (!command.includes('--json')) assert.match(stderr, /Standard output could not be written \(ENOSPC\)/, command)
    }
  })

  test('a configuration with mistakes: 2, every one of them with its place', async () => {
    const cwd = await place()
    await writeFile(join(cwd, 'regain.yaml'), 'version: 1\ndestinations: {}\nkeys: {}\nservice: {}\n')
    const { status, stderr } = await regain(cwd, 'config', 'check')
    assert.equal(status, 2)
    assert.match(stderr, /regain\.yaml:4:1: unknown setting "service"; did you mean "services"\?/)
  })

  test('settings that only a driver understands are checked as well, without asking anybody', async () => {
    const cwd = await place()
    const source = (name: string, url: string, more = '') =>
      `      ${name}: { type: postgres${more === '' ? '' : '-dump'}, url: "postgres://me@db.invalid/${url}"${more} }\n`
    const head = `version: 1
destinations: { hot: { type: local, path: backups } }
keys: { main: { type: file, path: main.key } }
services:
  shop:
    retention: keep-all
    sources:
`
    await writeFile(join(cwd, 'regain.yaml'), `${head}${source('good', 'shop?sslmode=require')}`)
    assert.equal((await regain(cwd, 'config', 'check')).status, 0)
    const wrong = [
      source('one', 'shop?pasword=hunter2'),
      source('two', 'shop?sslmode=requird'),
      source('three', 'shop', ', exclude: ["a.b.c"]'),
    ]
    await writeFile(join(cwd, 'regain.yaml'), head + wrong.join(''))
    const { status, stderr } = await regain(cwd, 'config', 'check')
    assert.equal(status, 2)
    assert.match(stderr, /regain\.yaml:8:7: services\.shop\.sources\.one: .*"pasword" is not known/)
    assert.match(stderr, /regain\.yaml:9:7: services\.shop\.sources\.two: .*sslmode "requird" is none of/)
    assert.match(stderr, /regain\.yaml:10:7: services\.shop\.sources\.three: "a\.b\.c" names no tables/)
    assert.doesNotMatch(stderr, /hunter2/)
  })
})

describe('keys', () => {
  test('a second key opens the repository when the first is lost', async () => {
    const cwd = await protectedPlace()
    const config = join(cwd, 'regain.yaml')
    const text = await readFile(config, 'utf8')
    await writeFile(config, text.replace('services:', '  second: { type: file, path: second.key }\n\nservices:'))
    const added = await json(cwd, 'key', 'add', 'shop', 'second')
    assert.deepEqual([added.status, added.last.isNew], [0, true])
    const listed = await json(cwd, 'key', 'list', 'shop')
    assert.equal((listed.last.keys as unknown[]).length, 2)
    await rm(join(cwd, 'main.key'))
    assert.equal((await regain(cwd, 'points')).status, 12)
    await writeFile(config, (await readFile(config, 'utf8')).replace('key: main', 'key: second'))
    assert.equal((await regain(cwd, 'restore', 'shop', '--to', 'out')).status, 0)
    const exported = await regain(cwd, 'key', 'export', 'shop')
    assert.match(exported.stdout, /^[0-9a-f]{64}\n$/)
  })

  test('a key is rotated: the new one opens, the old one no longer, at every destination; a key in use is not taken out', async () => {
    const cwd = await protectedPlace()
    const config = join(cwd, 'regain.yaml')
    await edit(config, 'services:', '  second: { type: file, path: second.key }\n\nservices:')
    const rotated = await json(cwd, 'key', 'rotate', 'shop', 'second')
    assert.equal(rotated.status, 0)
    assert.equal((rotated.last.removed as unknown[]).length, 1)
    assert.equal((await regain(cwd, 'points')).status, 12)
    // Given again after it was cut short, or by mistake: fine.
    assert.deepEqual((await json(cwd, 'key', 'rotate', 'shop', 'second')).last.removed, [])
    await edit(config, 'key: main', 'key: second')
    assert.equal((await regain(cwd, 'verify', 'shop')).status, 0)

    assert.equal((await json(cwd, 'key', 'remove', 'shop', 'second')).last.code, 'precondition-failed')
    assert.equal((await regain(cwd, 'key', 'add', 'shop', 'main')).status, 0)
    assert.equal((await json(cwd, 'key', 'remove', 'shop', 'second')).last.code, 'precondition-failed')
    const removed = await regain(cwd, 'key', 'remove', 'shop', 'main')
    assert.match(removed.stderr, /Whoever kept that key .*regain repository rekey/)
    assert.equal((await json(cwd, 'key', 'remove', 'shop', 'main')).last.code, 'precondition-failed')
    assert.equal((await regain(cwd, 'verify', 'shop')).status, 0)
  })

  test('a new data key: all that is stored is sealed under it, and the old one opens nothing', async () => {
    const cwd = await protectedPlace()
    await edit(join(cwd, 'regain.yaml'), 'services:', '  second: { type: file, path: second.key }\n\nservices:')
    assert.equal((await regain(cwd, 'key', 'add', 'shop', 'second')).status, 0)
    assert.equal((await json(cwd, 'repository', 'rekey', 'shop/files')).last.code, 'usage', 'not for one source')
    const { status, last } = await json(cwd, 'repository', 'rekey', 'shop')
    assert.deepEqual([status, last.done, last.epoch, last.waits], [0, true, 2, []])
    assert.deepEqual((last.begun as { dropped: unknown }).dropped, [], 'both keys were at hand')
    assert.equal((await regain(cwd, 'verify', 'shop', '--read-data')).status, 0)
    assert.equal((await regain(cwd, 'restore', 'shop', '--to', 'out')).status, 0)
    assert.equal(await readFile(join(cwd, 'out/a.txt'), 'utf8'), 'first\n')
    const program = join(cwd, 'backups/shop/recover.py')
    const list = await runCommand('python3', [program, 'list', '--key', 'second.key'], { cwd, env: environment() })
    assert.equal(list.status, 0, list.stderr)
    const point = list.stdout.slice(0, 12)
    const files = ['files', '--key', 'main.key', point, 'without']
    const recovered = await runCommand('python3', [program, ...files], { cwd, env: environment() })
    assert.equal(recovered.status, 0, recovered.stderr)
  })

  test('a rekey that is not done is told by check and points, and the daily prune goes on with it', async () => {
    const cwd = await protectedPlace()
    const config = await loadConfiguration({ path: join(cwd, 'regain.yaml'), environment: {} })
    const [service, destination] = [config.services.shop!, config.destinations.local!]
    const common = { version: '0', ambient: testAmbient(), environment: {}, launcher: LAUNCHER, processId: process.pid }
    const application = { ...common, config, drivers }
    const reporting = { signal: new AbortController().signal, progress: () => undefined, warn: () => undefined }
    // A reader that began before is waited for.
    await withRepository(application, service, destination, async (repository) => {
      const [point] = await repository.points()
      const reader = await repository.openPoint(point!.id, reporting)
      assert.equal((await json(cwd, 'repository', 'rekey', 'shop')).status, 3)
      const { last } = await json(cwd, 'check', 'shop')
      const findings = last.findings as { code: string; severity: string; fix: string }[]
      const found = findings.find(({ code }) => code === 'rekey')
      assert.deepEqual([found?.severity, /regain repository rekey shop/.test(found?.fix ?? '')], ['warning', true])
      assert.match(
        (await regain(cwd, 'points')).stderr,
        /rekey was begun and is not done.*regain repository rekey shop/s,
      )
      await reader.close()
    })
    const { waits } = await pruneRepository(application, service, destination, reporting)
    assert.deepEqual(waits, [])
    assert.doesNotMatch((await regain(cwd, 'points')).stderr, /rekey/)
    assert.equal((await regain(cwd, 'verify', 'shop', '--read-data')).status, 0)
  })

  test('a rekey that fails in the middle says which key opens what, and goes on when it is given again', async () => {
    const cwd = await protectedPlace()
    const config = await loadConfiguration({ path: join(cwd, 'regain.yaml'), environment: {} })
    const isPack: FaultScript = ({ operation, name }) =>
      operation === 'put' && name.startsWith('packs/') ? { kind: 'reject-before' } : null
    const failing = {
      ...drivers,
      openStorage: async (request: Parameters<typeof drivers.openStorage>[0]) =>
        withFaults(await drivers.openStorage(request), isPack),
    }
    const common = { version: '0', ambient: testAmbient(), environment: {}, launcher: LAUNCHER, processId: process.pid }
    const application = { ...common, config, drivers: failing }
    const reporting = { signal: new AbortController().signal, progress: () => undefined, warn: () => undefined }
    await assert.rejects(
      rekeyRepositories(application, 'shop', undefined, reporting, () => undefined),
      (error) => {
        assert.ok(isRegainError(error, 'storage-unavailable'))
        assert.match(error.message, /rekey is not done: key epoch 2 is in use.*Nothing is lost/)
        return /same command again/.test(error.hint ?? '')
      },
    )
    const { status, last } = await json(cwd, 'repository', 'rekey', 'shop')
    assert.deepEqual([status, last.done, last.begun, last.epoch], [0, true, null, 2])
    assert.equal((await regain(cwd, 'verify', 'shop', '--read-data')).status, 0)
  })

  test('a destination that no service uses was not checked, and is not said to be well', async () => {
    const cwd = await protectedPlace()
    const config = join(cwd, 'regain.yaml')
    await edit(config, 'keys:', '  spare: { type: local, path: spare }\n\nkeys:')
    const { status, last } = await json(cwd, 'repository', 'check', 'spare')
    assert.deepEqual([status, last.code], [2, 'usage'])
    assert.equal((await regain(cwd, 'repository', 'check', 'local')).status, 0)
  })

  test('a printed key that is typed in again opens the backups, with Regain and without', async () => {
    const cwd = await protectedPlace()
    const { stdout } = await regain(cwd, 'key', 'export', 'shop', '--printable')
    assert.match(stdout, /^# service shop, key main \([0-9a-f]{16}\), printed 20/m)
    await rename(join(cwd, 'main.key'), join(cwd, 'lost.key'))
    const type = (text: string) =>
      runCommand(LAUNCHER, ['key', 'import', 'main.key'], { cwd, env: environment(), input: text })
    const wrong = await type(stdout.replace(/^(3.*)(.)$/m, (_, line, last) => `${line}${last === '0' ? '1' : '0'}`))
    assert.deepEqual([wrong.status, /look at line 3/.test(wrong.stderr)], [12, true], wrong.stderr)
    const typed = await type(
      stdout
        .replace(/^#.*\n/gm, '')
        .toUpperCase()
        .replace('REGAIN-PAPER', 'regain-paper'),
    )
    assert.equal(typed.status, 0, typed.stderr)
    assert.equal(await readFile(join(cwd, 'main.key'), 'utf8'), await readFile(join(cwd, 'lost.key'), 'utf8'))
    assert.equal((await type(stdout)).status, 6, 'never over a key file')
    // What the other form prints, which has no check, is taken as well; and a key never goes to a folder nobody made.
    const digits = (await regain(cwd, 'key', 'export', 'shop')).stdout
    const into = (path: string) =>
      runCommand(LAUNCHER, ['key', 'import', path], { cwd, env: environment(), input: digits })
    const nowhere = await into('keys/second.key')
    assert.deepEqual([nowhere.status, /There is no folder .*mkdir -p/s.test(nowhere.stderr)], [6, true], nowhere.stderr)
    await assert.rejects(readFile(join(cwd, 'keys/second.key')), { code: 'ENOENT' })
    assert.equal((await into('second.key')).status, 0)
    assert.equal(await readFile(join(cwd, 'second.key'), 'utf8'), await readFile(join(cwd, 'main.key'), 'utf8'))
    assert.equal((await regain(cwd, 'verify', 'shop')).status, 0)
    await writeFile(join(cwd, 'paper.txt'), stdout)
    const program = join(cwd, 'backups/shop/recover.py')
    assert.equal(
      (await runCommand('python3', [program, 'list', '--key', 'paper.txt'], { cwd, env: environment() })).status,
      0,
    )
  })

  test('keys are destroyed only when told twice, and then nothing opens the backups, with Regain or without', async () => {
    const cwd = await protectedPlace()
    const program = join(cwd, 'backups/shop/recover.py')
    const list = () => runCommand('python3', [program, 'list', '--key', 'main.key'], { cwd, env: environment() })
    assert.equal((await regain(cwd, 'key', 'destroy', 'shop')).status, 2)
    assert.equal((await regain(cwd, 'key', 'destroy', 'shop', '--yes-destroy-all-data', 'shopp')).status, 2)
    assert.equal((await list()).status, 0)
    const { status, last } = await json(cwd, 'key', 'destroy', 'shop', '--yes-destroy-all-data', 'shop')
    assert.equal(status, 0)
    const [destroyed] = last.destroyed as { objects: string[]; proof: string }[]
    assert.equal(destroyed?.objects.length, 1)
    assert.match(destroyed?.proof ?? '', /destroyed on purpose/)
    assert.equal((await json(cwd, 'points')).last.code, 'repository-damaged')
    const gone = await list()
    assert.notEqual(gone.status, 0)
    assert.match(gone.stderr, /no wrapped key/)

    // Another destination, which could not be reached then: the same command goes on with it.
    await edit(join(cwd, 'regain.yaml'), 'keys:', '  late: { type: local, path: late }\n\nkeys:')
    await edit(join(cwd, 'regain.yaml'), 'destinations: [local]', 'destinations: [local, late]')
    const missing = await json(cwd, 'key', 'destroy', 'shop', '--yes-destroy-all-data', 'shop')
    assert.equal(missing.last.code, 'repository-not-found')
    assert.equal((await regain(cwd, 'repository', 'init', 'shop')).status, 0)
    const again = await json(cwd, 'key', 'destroy', 'shop', '--yes-destroy-all-data', 'shop')
    assert.deepEqual(
      (again.last.destroyed as { destination: string; objects: string[] }[]).map(
        ({ destination, objects }) => `${destination} ${objects.length}`,
      ),
      ['local 0', 'late 1'],
    )
  })
})

async function edit(file: string, from: string, to: string): Promise<void> {
  const text = await readFile(file, 'utf8')
  assert.ok(text.includes(from))
  await writeFile(file, text.replace(from, to))
}
