import { createHash } from 'node:crypto'
import { writeSync } from 'node:fs'
import { isRegainError } from '../../src/errors.ts'
import type { Storage } from '../../src/storage/contract.ts'
import { openLocalStorage } from '../../src/storage/local.ts'

/**
 * A process of its own for storage-local.test.ts, to be killed, raced or starved:
 *   write DIRECTORY SEED FIRST   rewrites a few objects without end, printing 'done SLOT GENERATION' after each
 *   create DIRECTORY COUNT       creates the same names as its siblings, printing 'won NAME'
 *   fill DIRECTORY BYTES         writes one object, printing 'written' or the error's code
 */
export const SLOTS = 4

/** Content that tells slot, generation and whether it is whole: a line of JSON, then bytes that follow from it. */
export function slotContent(slot: number, generation: number, seed: number): Buffer {
  const size = 1 + (createHash('sha256').update(`${seed} ${slot} ${generation}`).digest().readUInt32LE(0) % 1_500_000)
  const head = `${JSON.stringify({ slot, generation, seed })}\n`
  const block = createHash('sha512').update(head).digest()
  return Buffer.concat([Buffer.from(head), Buffer.alloc(size, block)])
}

const [job, directory, first, second] = process.argv.slice(2)
if (import.meta.main) await run()

async function run(): Promise<void> {
  const storage = await openLocalStorage(directory!)
  if (job === 'write') await writeWithoutEnd(storage, Number(first), Number(second))
  else if (job === 'create') await createAll(storage, Number(first))
  else await fill(storage, Number(first))
  await storage.close()
}

async function writeWithoutEnd(storage: Storage, seed: number, firstGeneration: number): Promise<void> {
  const rewrite = async (slot: number) => {
    for (let generation = firstGeneration; ; generation++) {
      await storage.put(`slots/${slot}/object`, slotContent(slot, generation, seed))
      say(`done ${slot} ${generation}`)
      if (await storage.create(`made/${generation % 7}/${slot}-${generation}`, slotContent(slot, generation, seed))) {
        say(`made ${slot} ${generation}`)
      }
    }
  }
  await Promise.all(Array.from({ length: SLOTS }, (_, slot) => rewrite(slot)))
}

async function createAll(storage: Storage, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    if (await storage.create(`race/${i}`, Buffer.from(`${process.pid}`))) say(`won race/${i}`)
  }
}

async function fill(storage: Storage, size: number): Promise<void> {
  // Unhandled, this signal of a file that reached its limit ends the process before the system call can fail.
  process.on('SIGXFSZ', () => {})
  const outcome = storage.put('large', Buffer.alloc(size))
  say(
    await outcome.then(
      () => 'written',
      (error) => (isRegainError(error) ? error.code : Promise.reject(error)),
    ),
  )
}

/** At once, past every buffer of this process: what was said was true when it was killed. */
function say(line: string): void {
  writeSync(1, `${line}\n`)
}
