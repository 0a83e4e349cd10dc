import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openKeyFile } from '../../src/keys/file.ts'
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
  writeTree,
} from '../support/repository.ts'

/**
 * Backs a changing tree up, over and over, until it is killed (kill.test.ts). Before each backup it writes down what the tree
 * is, under the point's label; after each it tells the point. `killAt` > 0: it kills itself at that storage call.
 */
const [folder = '', keyFile = '', firstRound = '0', seed = '', killAt = '0', work = 'backup'] = process.argv.slice(2)

const local = await openLocalStorage(join(folder, 'store'))
const calls = Number(killAt)
const storage =
  calls === 0
    ? local
    : withFaults(local, (call) => {
        if (call.number !== calls) return null
        return { kind: 'call', when: calls % 2 === 0 ? 'before' : 'after', run: killSelf }
      })
// A day later than the child before it, so that points have an order.
const ambient = testAmbient(Date.UTC(2027, 0, 1 + Number(firstRound)))
const repository = await openTestRepository(storage, await openKeyFile(keyFile), { ambient })
const tree = join(folder, 'tree')

for (let round = Number(firstRound); ; round++) {
  const random = seededNumbers(`${seed} ${round}`)
  if (work === 'restore') {
    const points = await repository.points()
    const point = points[random(Math.max(1, points.length))]
    if (point) await restore(repository, point.id)
    continue
  }
  change(random, round)
  writeFileSync(join(folder, 'expected', `${round}.json`), JSON.stringify([...readTree(tree)]))
  process.stdout.write(`begin ${round}\n`)
  const { point } = await backUp(repository, tree, { label: String(round) })
  process.stdout.write(`done ${round} ${point.id}\n`)
}

function killSelf(): void {
  process.kill(process.pid, 'SIGKILL')
}

/** A few files of many sizes; some stay, some change, some go. */
function change(random: (below: number) => number, round: number): void {
  for (let i = 0; i < 6; i++) {
    const name = `f${random(20)}`
    if (random(4) === 0) rmSync(join(tree, name), { force: true })
    else writeTree(tree, { [name]: someBytes(`${seed} ${round} ${i}`, 1 << random(22)) })
  }
}
