import { rmSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { isRegainError } from '../../src/errors.ts'
import { openKeyFile } from '../../src/keys/file.ts'
import { thisProcess } from '../../src/process.ts'
import { withFaults } from '../../src/storage/fault.ts'
import { openLocalStorage } from '../../src/storage/local.ts'
import {
  backUp,
  openTestRepository,
  readTree,
  restore,
  seededNumbers,
  someBytes,
  testAmbient,
  uninterrupted,
  writeTree,
} from '../support/repository.ts'

/**
 * Backs a changing tree up, over and over, and prunes now and then, until it is killed (kill.test.ts, two-processes.test.ts).
 * Before each backup it writes down what the tree is, under the point's label; before each prune it tells what it expires;
 * after each backup it tells the point. `killAt` > 0: it kills itself at that storage call.
 */
export interface KillChild {
  /** Of its store, key, and what it writes down. */
  folder: string
  /** Of its own among those that work at the same time. */
  name: string
  firstRound: number
  seed: string
  killAt: number
  work: 'backup' | 'restore'
}

const { folder, name, firstRound, seed, killAt, work }: KillChild = JSON.parse(process.argv[2] as string)
const signal = uninterrupted()
const local = await openLocalStorage(join(folder, 'store'))
const storage =
  killAt === 0
    ? local
    : withFaults(local, (call) => {
        if (call.number !== killAt) return null
        return { kind: 'call', when: killAt % 2 === 0 ? 'before' : 'after', run: killSelf }
      })
// A day later than the child before it, so that points have an order.
const ambient = { ...testAmbient(Date.UTC(2027, 0, 1 + firstRound)), ...thisProcess() }
const repository = await openTestRepository(storage, await openKeyFile(join(folder, 'key')), { ambient })
const tree = join(folder, `tree${name}`)

for (let round = firstRound; ; round++) {
  const random = seededNumbers(`${seed} ${round}`)
  if (work === 'restore') {
    const points = await repository.points()
    const point = points[random(Math.max(1, points.length))]
    if (point) await restore(repository, point.id)
    continue
  }
  change(random, round)
  const label = `${name}${round}`
  writeFileSync(join(folder, 'expected', `${label}.json`), JSON.stringify([...readTree(tree)]))
  say(`begin ${round}`)
  if (random(2) === 0) await prune(random)
  const { point } = await backUp(repository, tree, { label })
  say(`done ${round} ${point.id}`)
}

/** Expires some, never the newest. */
async function prune(random: (below: number) => number): Promise<void> {
  const points = await repository.points()
  const expire = points.slice(0, -3).filter(() => random(2) === 0)
  for (const { id } of expire) say(`expire ${id}`)
  try {
    const plan = await repository.planPrune({
      expire: expire.map(({ id }) => ({ id, reason: 'a test' })),
      trimLog: [],
      weighed: points.map(({ id }) => id),
      signal,
      progress: () => undefined,
    })
    const { packs } = await repository.prune(plan, { signal, progress: () => undefined })
    say(`pruned ${packs.removed}`)
  } catch (error) {
    // Another one's prune expired it first.
    if (!isRegainError(error, 'point-not-found')) throw error
  }
}

function say(line: string): void {
  // Synchronous: what is said was said when the process is killed.
  writeSync(1, `${line}\n`)
}

function killSelf(): void {
  process.kill(process.pid, 'SIGKILL')
}

/** A few files of many sizes; some stay, some change, some go. */
function change(random: (below: number) => number, round: number): void {
  for (let i = 0; i < 6; i++) {
    const file = `f${random(20)}`
    if (random(4) === 0) rmSync(join(tree, file), { force: true })
    else writeTree(tree, { [file]: someBytes(`${seed} ${round} ${i}`, 1 << random(22)) })
  }
}
