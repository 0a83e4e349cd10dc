import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { Worker } from 'node:worker_threads'
import { Pace, sharePace, stopPace } from './pace.ts'

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
    const took = elapsedMs(() => use(new Pace(shared, othersOnly()), 600))
    // As fast as it goes until the second look after a quarter of a second, then by a share that is halved with each, less the
    // credit of a pause: at most 593 ms of it are used in the first second.
    assert.ok(took >= 850, `${took} ms`)
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
