import { createHash } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { ChunkTable, type SharedTable } from '../../src/repository/packs/chunk-table.ts'

/** A worker thread that claims every id in an order of its own and says how many it got (chunk-table.test.ts). */
const { shared, ids, order } = workerData as { shared: SharedTable; ids: number; order: number }
const table = ChunkTable.attach(shared)
const got: number[] = []
for (let i = 0; i < ids; i++) {
  const number = (i * order + order) % ids
  if (table.claim(createHash('sha256').update(`id ${number}`).digest(), number)) got.push(number)
}
parentPort?.postMessage(got)
