import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { gaveWayMs, type Machine, Pace, type PaceLimits, sharePace, stopPace, THIS_MACHINE } from './pace.ts'

/** How long it took by the clock that the pace itself goes by; what is asserted is a floor, which no slow machine breaks. */
function elapsedMs(work: () => void): number {
  const start = process.hrtime.bigint()
  work()
  return Number(process.hrtime.bigint() - start) / 1e6
}

/** Uses so much processor time in this thread. */
function use(pace: Pace, milliseconds: number): void {
  const block = Buffer.alloc(65_536)
  const before = process.threadCpuUsage()
  for (;;) {
    createHash('sha256').update(block).digest()
    pace.compute()
    const { user, system } = process.threadCpuUsage(before)
    if (user + system >= milliseconds * 1000) return
  }
}

/** Processors that have worked for others alone at each look. */
function othersOnly(): () => { busyNs: bigint; idleNs: bigint } {
  let looks = 0n
  return () => ({ busyNs: ++looks * 10n ** 12n, idleNs: 0n })
}

/** A machine with one processor, which others want at any time; its clock goes on by work and by waiting alone. */
class OneProcessor implements Machine {
  shared!: NonNullable<ReturnType<typeof sharePace>>
  othersAreBusy = true
  /** Of each piece of work. */
  readonly waits: number[] = []
  private atMs = 1_000_000
  private usedMs = 0
  private readonly busyOthers = othersOnly()

  get waitedMs(): number {
    return this.waits.reduce((sum, ms) => sum + ms, 0)
  }
  work(pace: Pace, ms: number): void {
    this.atMs += ms
    this.usedMs += ms
    this.waits.push(0)
    pace.compute()
  }

  nowNs = () => BigInt(Math.round(this.atMs * 1e6))
  processNs = () => BigInt(this.usedMs) * 1_000_000n
  threadNs = this.processNs
  processorTimes = () => (this.othersAreBusy ? this.busyOthers() : { busyNs: this.processNs(), idleNs: this.nowNs() })
  wait = (_stop: Int32Array, ms: number) => {
    this.atMs += ms
    this.waits[this.waits.length - 1]! += ms
  }
}

function paceOn(machine: OneProcessor, limits: PaceLimits): Pace {
  const shared = sharePace(limits, 1, machine)
  assert.ok(shared?.giveWay)
  shared.giveWay.freeNs = 0n
  machine.shared = shared
  return new Pace(shared, machine)
}

describe('a pace', () => {
  it('is none without limits', () => {
    assert.equal(sharePace({}, 2), null)
  })

  it('lets bytes pass at its rate, a short burst ahead', () => {
    const shared = sharePace({ readBytesPerSecond: 1_000_000 }, 2)
    assert.ok(shared)
    const pace = new Pace(shared)
    // 600 KB at 1 MB/s, of which the first quarter of a second and the last piece are not waited for.
    const took = elapsedMs(() => {
      for (let i = 0; i < 60; i++) pace.read(10_000)
    })
    assert.ok(took >= 330, `${took} ms`)
  })

  it('is one for all threads', () => {
    const shared = sharePace({ readBytesPerSecond: 1_000_000 }, 2)
    assert.ok(shared)
    const [one, other] = [new Pace(shared), new Pace(shared)]
    const took = elapsedMs(() => {
      for (let i = 0; i < 30; i++) {
        one.read(10_000)
        other.read(10_000)
      }
    })
    assert.ok(took >= 330, `${took} ms`)
  })

  it('keeps the process to its share of the processors', () => {
    const shared = sharePace({ cpuShare: 0.1 }, 1)
    assert.ok(shared)
    const pace = new Pace(shared)
    const block = Buffer.alloc(65_536)
    const before = process.cpuUsage()
    const took = elapsedMs(() => {
      for (let i = 0; i < 1500; i++) {
        createHash('sha256').update(block).digest()
        pace.compute()
      }
    })
    const { user, system } = process.cpuUsage(before)
    const usedMs = (user + system) / 1000
    assert.ok(took >= usedMs * 10 - 260 - 50, `${usedMs} ms used in ${took} ms`)
  })

  it('gives way to others who keep the processors busy', () => {
    const shared = sharePace({ busyShare: 0.1 }, 1)
    assert.ok(shared?.giveWay)
    shared.giveWay.freeNs = 0n
    const took = elapsedMs(() => use(new Pace(shared, { ...THIS_MACHINE, processorTimes: othersOnly() }), 600))
    // As fast as it goes until the second look after a quarter of a second, then by a share that is halved with each, less the
    // credit of a pause: at most 593 ms of it are used in the first second.
    assert.ok(took >= 850, `${took} ms`)
  })

  it('tells how long it waited for others, to the millisecond', () => {
    const one = new OneProcessor()
    const pace = paceOn(one, { busyShare: 0.5 })
    // Free until the second look, a quarter of a second after the first; from then on each 100 ms take 200.
    for (let i = 0; i < 4; i++) one.work(pace, 100)
    assert.equal(one.waitedMs, 0)
    assert.equal(gaveWayMs(one.shared), 0)
    for (let i = 0; i < 20; i++) one.work(pace, 100)
    assert.ok(one.waitedMs > 1000, `${one.waitedMs} ms`)
    assert.equal(gaveWayMs(one.shared), one.waitedMs)
  })

  it('does not say that it waited for others when it was another limit, or nobody is busy', () => {
    const one = new OneProcessor()
    const limited = paceOn(one, { busyShare: 0.5, cpuShare: 0.1 })
    for (let i = 0; i < 20; i++) one.work(limited, 100)
    assert.ok(one.waitedMs > 10_000, `${one.waitedMs} ms`)
    assert.equal(gaveWayMs(one.shared), 0)

    const quiet = new OneProcessor()
    quiet.othersAreBusy = false
    const free = paceOn(quiet, { busyShare: 0.5 })
    for (let i = 0; i < 20; i++) quiet.work(free, 100)
    assert.deepEqual([quiet.waitedMs, gaveWayMs(quiet.shared)], [0, 0])
  })

  it('tells of several threads what the one that waited longest did: they wait at the same time', () => {
    const one = new OneProcessor()
    const threads = [paceOn(one, { busyShare: 0.5 }), new Pace(one.shared, one), new Pace(one.shared, one)]
    for (let i = 0; i < 60; i++) one.work(threads[i % 3] as Pace, 100)
    const each = [0, 1, 2].map((thread) => one.waits.filter((_, i) => i % 3 === thread).reduce((a, b) => a + b))
    assert.ok(Math.min(...each) > 0)
    assert.equal(gaveWayMs(one.shared), Math.max(...each))
  })

  it('ends waiting at once when the session is given up, in another thread too', async () => {
    const shared = sharePace({ readBytesPerSecond: 1 }, 2)
    assert.ok(shared)
    const url = new URL('./pace.ts', import.meta.url).href
    const code = `
      import { parentPort, workerData } from 'node:worker_threads'
      import { Pace } from '${url}'
      const pace = new Pace(workerData)
      pace.read(1_000_000_000)
      parentPort.postMessage('waiting')
      try { pace.read(1); parentPort.postMessage('went on') } catch (error) { parentPort.postMessage(error.code) }`
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { workerData: shared })
    const said: unknown[] = []
    await new Promise<void>((resolve, reject) => {
      worker.on('error', reject)
      worker.on('exit', () => resolve())
      worker.on('message', (message) => {
        said.push(message)
        if (message === 'waiting') stopPace(shared)
      })
    })
    assert.deepEqual(said, ['waiting', 'interrupted'])
  })
})
