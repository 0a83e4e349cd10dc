import { openKeyFile } from '../../src/keys/file.ts'
import { copyPoint } from '../../src/operations/copy-point.ts'
import { thisProcess } from '../../src/process.ts'
import { type FaultScript, withFaults } from '../../src/storage/fault.ts'
import { openLocalStorage } from '../../src/storage/local.ts'
import { addPoint, clockOff, NEXT_CONTENTS, prune } from '../support/aged-repository.ts'
import { openTestRepository, uninterrupted } from '../support/repository.ts'

/**
 * Does one piece of work on a local store and kills itself at its k-th storage call, before or after that is carried out
 * (kill-at-calls.test.ts). With k = 0 it does all of it and says how many calls that took.
 */
export interface KillAtCall {
  store: string
  /** Of replicate: where to. */
  other: string
  keyFile: string
  work: Work
  doomed: string
  killAt: number
  when: 'before' | 'after'
}

export type Work = 'backup' | 'prune' | 'replicate' | 'rekey'

const { store, other, keyFile, work, doomed, killAt, when }: KillAtCall = JSON.parse(process.argv[2] as string)
const key = await openKeyFile(keyFile)
// A year after all that is there, so that those who died are known to have.
const ambient = { ...clockOff(24 * 365), ...thisProcess() }
let calls = 0
const script: FaultScript = () =>
  ++calls === killAt ? { kind: 'call', when, run: () => void process.kill(process.pid, 'SIGKILL') } : null

const WORK: Record<Work, () => Promise<unknown>> = {
  backup: async () => addPoint(await open(store), NEXT_CONTENTS),
  prune: async () => prune(await open(store), { expire: [doomed] }),
  async replicate() {
    const [from, to] = [await open(store), await open(other)]
    const reporting = { signal: uninterrupted(), progress: () => undefined, warn: () => undefined }
    for (const { id } of await from.points()) await copyPoint(ambient, from, to, id, reporting)
  },
  async rekey() {
    // Those who died in an earlier epoch hold it up until a prune has cleared them away.
    await prune(await open(store, () => null), { expire: [doomed] })
    await (await open(store)).beginRekey([{ provider: key, label: 'key' }])
    await (await open(store)).rekey({ signal: uninterrupted(), progress: () => undefined })
  },
}

await WORK[work]()
process.stdout.write(`${calls}\n`, () => process.exit())

async function open(folder: string, faults: FaultScript = script) {
  const storage = withFaults(await openLocalStorage(folder), faults)
  return openTestRepository(storage, key, { ambient, workers: 1 })
}
