import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { closeSync, openSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { CreateBucketCommand, PutBucketVersioningCommand, S3Client } from '@aws-sdk/client-s3'
import type { S3Config } from '../../src/storage/s3-client.ts'
import { memoryFolder } from './memory-folder.ts'

/**
 * A real S3 server on loopback: Ceph's radosgw from Debian's packages, with one monitor and one disk in a sparse file, all
 * below a temporary folder. About 7 seconds and 300 MB of memory; start one for a file of tests, and give each test a
 * prefix of its own.
 */
export interface TestS3 {
  readonly endpoint: string
  readonly credentials: { accessKeyId: string; secretAccessKey: string }
  /** For what the driver never does: making buckets, and attacks. */
  readonly client: S3Client
  /** Name of a new bucket. */
  bucket(kind?: 'plain' | 'versioned' | 'locking'): Promise<string>
  config(bucket: string, prefix?: string): S3Config
  stop(): Promise<void>
}

/** One whose clock can be set on: locks of months end within a test. */
export interface TestS3WithClock extends TestS3 {
  /** The server's clock, from now on. It runs on from there. Requests must be signed by a clock that is at most 15 minutes off. */
  setClock(nowMs: number): Promise<void>
}

const execute = promisify(execFile)
const STEP_TIMEOUT_MS = 60_000
const DISK_BYTES = 64 * 1024 ** 3
const MEMORY_BYTES = 939_524_096
const START_ATTEMPTS = 3
const FAKETIME = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/faketime/libfaketimeMT.so.1`
/** Entries of a page of a listing, where S3 has 1,000: so that tests need not make as many objects to have two pages. */
export const LISTED_AT_ONCE = 100

/** `clock`: with libfaketime, so that setClock works. */
export async function startRadosgw(options: { clock?: boolean } = {}): Promise<TestS3WithClock> {
  for (let attempt = 1; ; attempt++) {
    const directory = await mkdtemp(join(memoryFolder(), 'regain-s3-'))
    const cluster = new Cluster(directory, options.clock ?? false)
    try {
      return await cluster.start()
    } catch (error) {
      const logs = await cluster.logs()
      await cluster.stop()
      // Its ports were free when they were chosen; another test may have been quicker.
      if (attempt === START_ATTEMPTS) throw new Error(`radosgw did not start.\n${logs}`, { cause: error })
    }
  }
}

class Cluster {
  readonly #directory: string
  readonly #hasClock: boolean
  readonly #daemons: ChildProcess[] = []
  readonly #killAll = () => {
    for (const daemon of this.#daemons) daemon.kill('SIGKILL')
  }

  constructor(directory: string, hasClock: boolean) {
    this.#directory = directory
    this.#hasClock = hasClock
    process.on('exit', this.#killAll)
  }

  async start(): Promise<TestS3WithClock> {
    const [monitorPort, port] = await freePorts(2)
    for (const folder of ['mon', 'osd', 'rgw', 'run', 'log']) await mkdir(this.#path(folder))
    const cluster = randomUUID()
    await writeFile(this.#path('ceph.conf'), configuration(this.#directory, cluster, monitorPort!, port!))
    await writeFile(this.#path('clock'), '+0')
    await this.#makeKeys()
    const monmap = this.#path('monmap')
    const address = `[v2:127.0.0.1:${monitorPort}]`
    await run('monmaptool', '--create', '--fsid', cluster, '--addv', 'a', address, monmap)
    await this.#run('ceph-mon', '--mkfs', '-i', 'a', '--monmap', monmap, '--keyring', this.#path('keyring'))
    await this.#startDaemon('mon', 'ceph-mon', '-i', 'a')

    const disk = randomUUID()
    await Promise.all([
      this.#run('ceph-osd', '-i', '0', '--mkfs', '--osd-uuid', disk, '--no-mon-config'),
      this.#until(() => this.#run('ceph', '--connect-timeout', '5', 'osd', 'new', disk, '0')),
    ])
    await this.#run('ceph', 'osd', 'crush', 'add', 'osd.0', '1', 'root=default', 'host=h')
    await this.#startDaemon('osd', 'ceph-osd', '-i', '0')
    await this.#until(async () => {
      const { stdout } = await this.#run('ceph', 'osd', 'stat', '-f', 'json')
      if (JSON.parse(stdout).num_up_osds !== 1) throw new Error('the disk is not up')
    })

    const credentials = {
      accessKeyId: randomBytes(10).toString('hex'),
      secretAccessKey: randomBytes(20).toString('hex'),
    }
    const { accessKeyId, secretAccessKey } = credentials
    const keys = [`--access-key=${accessKeyId}`, `--secret-key=${secretAccessKey}`]
    await this.#run('radosgw-admin', 'user', 'create', '--uid=test', '--display-name=test', ...keys)
    const place = ['--placement-id=default-placement', '--storage-class=STANDARD_IA']
    await this.#run('radosgw-admin', 'zonegroup', 'placement', 'add', '--rgw-zonegroup=default', ...place)
    const pool = '--data-pool=default.rgw.buckets.data'
    await this.#run('radosgw-admin', 'zone', 'placement', 'add', '--rgw-zone=default', ...place, pool)
    await this.#startDaemon('rgw', 'radosgw', '-n', 'client.rgw.a')
    const endpoint = `http://127.0.0.1:${port}`
    await this.#until(async () => {
      const answer = await fetch(endpoint)
      if (!(await answer.text()).includes('ListAllMyBucketsResult')) throw new Error('something else answers')
    })
    return this.#server(endpoint, credentials)
  }

  async stop(): Promise<void> {
    // The gateway first: it would wait for a disk that is gone.
    for (const daemon of this.#daemons.toReversed()) {
      if (daemon.exitCode !== null || daemon.signalCode !== null) continue
      const ended = new Promise((resolve) => daemon.once('exit', resolve))
      // What they hold is thrown away; a clean end would take seconds.
      daemon.kill('SIGKILL')
      await ended
    }
    process.off('exit', this.#killAll)
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 })
  }

  async logs(): Promise<string> {
    const texts = await Promise.all(
      ['mon', 'osd', 'rgw'].map((name) => readFile(this.#path(`log/${name}.out`), 'utf8').catch(() => '')),
    )
    return texts.map((text) => text.slice(-2000)).join('\n')
  }

  #server(endpoint: string, credentials: TestS3['credentials']): TestS3WithClock {
    const client = new S3Client({
      ...{ endpoint, credentials, region: 'us-east-1', forcePathStyle: true },
      requestChecksumCalculation: 'WHEN_REQUIRED',
    })
    const stop = async () => {
      client.destroy()
      await this.stop()
    }
    return {
      ...{ endpoint, credentials, client, stop },
      setClock: (nowMs) => this.#setClock(nowMs),
      async bucket(kind = 'plain') {
        const Bucket = `test-${randomBytes(6).toString('hex')}`
        await client.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: kind === 'locking' }))
        if (kind !== 'plain') {
          await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }))
        }
        return Bucket
      },
      config: (bucket, prefix = '') => ({ bucket, prefix, endpoint, credentials }),
    }
  }

  async #makeKeys(): Promise<void> {
    const keyring = this.#path('keyring')
    const all = ['--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *', '--cap', 'mgr', 'allow *']
    await run('ceph-authtool', '-C', keyring, '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *')
    for (const name of ['client.admin', 'osd.0', 'client.rgw.a'])
      await run('ceph-authtool', keyring, '--gen-key', '-n', name, ...all)
  }

  /** libfaketime, which reads how far the clock is off from a file at each look. */
  #clock(): Record<string, string> {
    return {
      LD_PRELOAD: FAKETIME,
      FAKETIME_TIMESTAMP_FILE: this.#path('clock'),
      FAKETIME_NO_CACHE: '1',
      DONT_FAKE_MONOTONIC: '1',
    }
  }

  async #setClock(nowMs: number): Promise<void> {
    const offsetSeconds = Math.round((nowMs - performance.timeOrigin - performance.now()) / 1000)
    await writeFile(this.#path('clock'), `${offsetSeconds < 0 ? '' : '+'}${offsetSeconds}`)
  }

  #path(name: string): string {
    return join(this.#directory, name)
  }

  #run(program: string, ...args: string[]) {
    return run(program, '-c', this.#path('ceph.conf'), '-k', this.#path('keyring'), ...args)
  }

  async #startDaemon(name: string, program: string, ...args: string[]): Promise<void> {
    const log = openSync(this.#path(`log/${name}.out`), 'w')
    const common = ['-f', '-c', this.#path('ceph.conf'), '-k', this.#path('keyring')]
    // Only the gateway: it decides when a lock ends.
    const env = name === 'rgw' && this.#hasClock ? { ...CLEAN, ...this.#clock() } : CLEAN
    const daemon = spawn(program, [...common, ...args], { stdio: ['ignore', log, log], env })
    closeSync(log)
    this.#daemons.push(daemon)
    await new Promise((resolve, reject) => daemon.once('spawn', resolve).once('error', reject))
  }

  /** Polls: the daemons tell nobody when they are ready. Gives up at once when one of them has ended. */
  async #until(attempt: () => Promise<unknown>): Promise<void> {
    const deadline = performance.now() + STEP_TIMEOUT_MS
    for (;;) {
      try {
        await attempt()
        return
      } catch (error) {
        if (this.#daemons.some(({ exitCode }) => exitCode !== null) || performance.now() > deadline) throw error
        await sleep(100)
      }
    }
  }
}

/** Settings of another cluster on this machine must not leak in. */
const { CEPH_ARGS: _args, CEPH_CONF: _conf, CEPH_KEYRING: _keyring, ...CLEAN } = process.env

function run(program: string, ...args: string[]) {
  return execute(program, args, { env: CLEAN, timeout: STEP_TIMEOUT_MS })
}

/** Free a moment ago, below the range from which connections take theirs. */
async function freePorts(count: number): Promise<number[]> {
  const found = new Set<number>()
  while (found.size < count) {
    const port = 20_000 + (randomBytes(2).readUInt16LE() % 12_000)
    const isFree = await new Promise<boolean>((resolve) => {
      const server = createServer()
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
    })
    if (isFree) found.add(port)
  }
  return [...found]
}

/** One copy of everything is enough, and nothing may wait for a second host. */
function configuration(directory: string, cluster: string, monitorPort: number, port: number): string {
  return `[global]
fsid = ${cluster}
mon host = v2:127.0.0.1:${monitorPort}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
auth allow insecure global id reclaim = false
keyring = ${directory}/keyring
run dir = ${directory}/run
admin socket =
setuser match path =
log file = ${directory}/log/$name.log
log to stderr = false
err to stderr = true
mon cluster log file = ${directory}/log/cluster.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 10000
mon data avail crit = 1
mon osd full ratio = .97
mon osd nearfull ratio = .95
mon osd backfillfull ratio = .96
paxos propose interval = 0.05
paxos min wait = 0.01

[mon]
mon data = ${directory}/mon

[osd]
osd data = ${directory}/osd
osd journal =
bluestore block path =
bluestore block create = true
bluestore block size = ${DISK_BYTES}
osd memory target = ${MEMORY_BYTES}
osd crush update on start = false
osd class update on start = false
osd max object name len = 2048

[client]
rgw data = ${directory}/rgw

[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:${port}
rgw crypt require ssl = false
rgw max listing results = ${LISTED_AT_ONCE}
`
}
