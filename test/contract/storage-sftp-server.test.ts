import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import type { Storage } from '../../src/storage/contract.ts'
import { createSftpStorage, openSftpStorage, type SftpPlace } from '../../src/storage/sftp.ts'
import { askForHostKey } from '../../src/storage/sftp-connection.ts'
import { SftpSession } from '../../src/storage/sftp-session.ts'
import { testAmbient } from '../support/repository.ts'
import { startSshd, type TestSshd } from '../support/sshd.ts'
import { listed, rejectsWith } from './storage.ts'

/** What only a server and a network between can do to it. What every store promises is in storage-sftp.test.ts. */
describe('sftp storage, its server and the way there', () => {
  let sshd: TestSshd
  let serial = 0
  before(async () => {
    sshd = await startSshd()
  })
  after(() => sshd.stop())

  const create = (place: Partial<SftpPlace> = {}) =>
    createSftpStorage({ ...sshd.place(`store-${serial++}`), ...place }, testAmbient())

  it('sends nothing to a server that is not the one expected', async () => {
    const hostKey = { fingerprint: `SHA256:${'A'.repeat(43)}` }
    await assert.rejects(create({ hostKey }), {
      code: 'storage-denied',
      message: new RegExp(literal(sshd.fingerprint)),
    })
    await assert.rejects(create({ hostKey: null }), {
      code: 'storage-denied',
      hint: new RegExp(literal(sshd.fingerprint)),
    })
    const knownHosts = join(sshd.home, 'known_hosts')
    writeFileSync(knownHosts, `[127.0.0.1]:${sshd.port} ssh-ed25519 ${randomBytes(51).toString('base64')}\n`)
    await rejectsWith('storage-denied', create({ hostKey: { knownHosts } }))
    writeFileSync(knownHosts, `[127.0.0.1]:${sshd.port} ${sshd.hostKey}\n`)
    await (await create({ hostKey: { knownHosts } })).close()
    assert.deepEqual(await askForHostKey('127.0.0.1', sshd.port), {
      type: 'ssh-ed25519',
      fingerprint: sshd.fingerprint,
    })
  })

  it('logs in by key, encrypted key or agent, and says when it is not let in', async () => {
    const folder = sshd.home
    const stranger = join(folder, 'stranger')
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', stranger])
    await rejectsWith('storage-denied', create({ login: { kind: 'identity', path: stranger } }))
    await rejectsWith('storage-denied', create({ login: { kind: 'identity', path: join(folder, 'none') } }))
    await rejectsWith('storage-denied', create({ login: { kind: 'password', password: 'swordfish' } }))

    const encrypted = join(folder, 'encrypted')
    writeFileSync(encrypted, readFileSync(sshd.identity), { mode: 0o600 })
    execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'swordfish', '-f', encrypted])
    await (await create({ login: { kind: 'identity', path: encrypted, passphrase: 'swordfish' } })).close()
    await rejectsWith('storage-denied', create({ login: { kind: 'identity', path: encrypted, passphrase: 'wrong' } }))
    await rejectsWith('storage-denied', create({ login: { kind: 'identity', path: encrypted } }))

    const socket = join(folder, 'agent')
    const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: ['ignore', 'pipe', 'ignore'] })
    try {
      await once(agent.stdout, 'data')
      execFileSync('ssh-add', ['-q', sshd.identity], { env: { ...process.env, SSH_AUTH_SOCK: socket } })
      await (await create({ login: { kind: 'agent', socket } })).close()
    } finally {
      const ended = once(agent, 'exit')
      agent.kill()
      await ended
    }
  })

  it('refuses a server that lacks what the promises stand on', async () => {
    for (const missing of ['posix-rename', 'hardlink', 'fsync']) {
      const poor = await startSshd({ subsystem: `-P ${missing}` })
      try {
        await assert.rejects(createSftpStorage(poor.place('a/store'), testAmbient()), {
          code: 'storage-unsuitable',
          message: new RegExp(`${missing}@openssh.com`),
        })
        assert.deepEqual(readdirSync(poor.home), [])
      } finally {
        await poor.stop()
      }
    }
  })

  it('fails calls when the connection is lost, and connects anew for the next', async () => {
    const way = await startWay(sshd.port)
    const storage = await create({ port: way.port })
    try {
      await storage.put('a', Buffer.from('1'))
      for (let round = 0; round < 3; round++) {
        const calls = [
          storage.put(`big/${round}`, randomBytes(8_000_000)),
          storage.create(`big/made-${round}`, randomBytes(8_000_000)),
        ]
        const ended = Promise.allSettled(calls)
        await way.carried(1_000_000)
        way.cut()
        for (const outcome of await ended) {
          assert.ok(outcome.status === 'rejected')
          assert.equal((outcome.reason as { code: string }).code, 'storage-unavailable')
        }
        assert.equal((await storage.get('a')).toString(), '1')
        for (const { size } of await listed(storage, 'big/')) assert.equal(size, 8_000_000)
      }
      way.close()
      way.cut()
      await rejectsWith('storage-unavailable', storage.get('a'))
      await rejectsWith('storage-unavailable', storage.put('a', Buffer.from('2')))
    } finally {
      await storage.close()
      way.close()
    }
  })

  it('ends a call that waits for a silent server when the signal fires', async () => {
    const way = await startWay(sshd.port)
    const storage = await create({ port: way.port })
    try {
      await storage.put('a', Buffer.from('1'))
      way.pause()
      const controller = new AbortController()
      const options = { signal: controller.signal }
      const calls = [
        storage.get('a', undefined, options),
        storage.put('b', Buffer.from('2'), options),
        listAll(storage, options),
      ]
      setImmediate(() => controller.abort())
      for (const call of calls) await rejectsWith('interrupted', call)
    } finally {
      way.cut()
      await storage.close()
      way.close()
    }
  })

  it('keeps objects as files that only their owner reads, and never takes foreign ones for objects', async () => {
    const place = sshd.place('layout')
    const storage = await createSftpStorage(place, testAmbient())
    await storage.put('x/y/put', Buffer.from('1'))
    await storage.create('x/y/created', Buffer.from('2'))
    assert.equal(await storage.create('x/y/created', Buffer.from('3')), false)
    for (const name of ['x/y/put', 'x/y/created']) assert.equal(lstatSync(join(place.path, name)).mode, 0o100600)
    for (const name of ['', 'x', 'x/y', '+tmp']) assert.equal(lstatSync(join(place.path, name)).mode, 0o40700)
    assert.deepEqual(readdirSync(join(place.path, '+tmp')), [])
    writeFileSync(join(place.path, 'x/with space'), '')
    symlinkSync('y/put', join(place.path, 'x/link'))
    assert.deepEqual(
      (await listed(storage)).map(({ name }) => name),
      ['x/y/created', 'x/y/put'],
    )
    assert.equal(await storage.size('x/link'), null)
    assert.equal(await storage.create('x/link', Buffer.from('x')), false)
    await storage.close()
  })

  it('removes what killed processes left a day ago, and nothing younger', async () => {
    const place = sshd.place('leftovers')
    await (await createSftpStorage(place, testAmbient())).close()
    const temporary = join(place.path, '+tmp')
    mkdirSync(temporary)
    chmodSync(temporary, 0o777)
    const now = Date.now()
    for (const [name, ageMs] of [
      ['a'.repeat(32), 25 * 3_600_000],
      ['b'.repeat(32), 23 * 3_600_000],
      ['foreign', 1e9],
    ] as const) {
      writeFileSync(join(temporary, name), '')
      utimesSync(join(temporary, name), new Date(now - ageMs), new Date(now - ageMs))
    }
    await (await openSftpStorage(place, { ...testAmbient(), now: () => now })).close()
    assert.deepEqual(readdirSync(temporary).sort(), ['b'.repeat(32), 'foreign'])
  })

  it('gives a name only to what is synced, and syncs the name before it says so', async (t) => {
    const storage = await create()
    await storage.put('x/warm', Buffer.from('1'))
    const requests: string[] = []
    for (const name of ['openNew', 'write', 'sync', 'close', 'rename', 'link', 'remove', 'openToRead'] as const) {
      const real = SftpSession.prototype[name] as (...args: unknown[]) => Promise<unknown>
      t.mock.method(SftpSession.prototype, name, async function (this: SftpSession, ...args: unknown[]) {
        const answer = await real.apply(this, args)
        requests.push(name)
        return answer
      } as never)
    }
    const nextRequests = () => requests.splice(0).join(' ')
    const written = 'openNew write sync close'
    const folderSynced = 'openToRead sync close'
    await storage.put('x/put', Buffer.from('1'))
    assert.equal(nextRequests(), `${written} rename ${folderSynced}`)
    assert.equal(await storage.create('x/made', Buffer.from('1')), true)
    assert.equal(nextRequests(), `${written} link remove ${folderSynced}`)
    await storage.delete('x/made')
    assert.equal(nextRequests(), `remove ${folderSynced}`)
    // A folder's own name comes first: it is synced in its parent before anything is put below it.
    await storage.put('y/z/put', Buffer.from('1'))
    assert.equal(nextRequests(), `${written} ${folderSynced} ${folderSynced} rename ${folderSynced}`)
    await storage.close()
  })

  it('says that the disk of the server is full, and leaves nothing half-written', async (t) => {
    const place = sshd.place('small')
    await (await createSftpStorage(place, testAmbient())).close()
    const { uid, gid } = lstatSync(place.path)
    const options = `size=6m,mode=700,uid=${uid},gid=${gid}`
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', place.path], { encoding: 'utf8' })
    if (mounted.status !== 0) return t.skip(`needs a small disk, and this user may not mount one: ${mounted.stderr}`)
    const storage = await openSftpStorage(place, testAmbient())
    try {
      await storage.put('a', randomBytes(1_000_000))
      await rejectsWith('storage-full', storage.put('a', randomBytes(9_000_000)))
      await rejectsWith('storage-full', storage.create('b', randomBytes(9_000_000)))
      assert.deepEqual(await listed(storage), [{ name: 'a', size: 1_000_000 }])
      assert.deepEqual(readdirSync(join(place.path, '+tmp')), [])
      await storage.put('c', randomBytes(3_000_000))
    } finally {
      await storage.close()
      spawnSync('umount', ['--lazy', place.path])
    }
  })

  it('tells a place that is not there, one that may not be written, and one that went away', async () => {
    await rejectsWith('storage-not-found', openSftpStorage(sshd.place('none'), testAmbient()))
    writeFileSync(join(sshd.home, 'file'), '')
    await rejectsWith('storage-unavailable', createSftpStorage(sshd.place('file/below'), testAmbient()))
    const place = sshd.place('passing')
    const storage = await createSftpStorage(place, testAmbient())
    await storage.put('x/y', Buffer.from('1'))
    chmodSync(join(place.path, 'x'), 0o500)
    await rejectsWith('storage-denied', storage.put('x/z', Buffer.from('1')))
    await rejectsWith('storage-denied', storage.create('x/z', Buffer.from('1')))
    await rejectsWith('storage-denied', storage.delete('x/y'))
    chmodSync(join(place.path, 'x'), 0)
    await rejectsWith('storage-denied', listed(storage))
    await rejectsWith('storage-denied', storage.size('x/y'))
    chmodSync(join(place.path, 'x'), 0o700)
    execFileSync('mv', [place.path, `${place.path}-moved`])
    await rejectsWith('storage-unavailable', storage.get('x/y'))
    await rejectsWith('storage-unavailable', storage.size('x/y'))
    await rejectsWith('storage-unavailable', storage.put('x/y', Buffer.from('2')))
    await rejectsWith('storage-unavailable', storage.delete('x/y'))
    await rejectsWith('storage-unavailable', listed(storage))
    await storage.close()
  })
})

async function listAll(storage: Storage, options: { signal: AbortSignal }): Promise<void> {
  for await (const _ of storage.list('', options));
}

function literal(text: string): string {
  return text.replace(/[+/]/g, '\\$&')
}

/** A way to a server that can be cut, or swallow what comes. */
async function startWay(target: number) {
  const ends = new Set<Socket>()
  let bytes = 0
  let isPaused = false
  const waiting: { at: number; resolve: () => void }[] = []
  const server = createServer((near) => {
    const far = connect(target, '127.0.0.1')
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      ends.add(from)
      from.on('error', () => undefined)
      from.on('close', () => to.destroy())
      from.on('data', (chunk) => {
        if (isPaused) return
        to.write(chunk)
        bytes += chunk.length
        for (const { at, resolve } of waiting) if (bytes >= at) resolve()
      })
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as { port: number }).port,
    carried: (more: number) => new Promise<void>((resolve) => waiting.push({ at: bytes + more, resolve })),
    cut() {
      for (const end of ends) end.destroy()
      ends.clear()
    },
    pause() {
      isPaused = true
    },
    close() {
      server.close()
    },
  }
}
