import { createHash } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'
import { ClaimTable, type SharedClaims } from '../../src/repository/packs/claim-table.ts'

/** A worker thread that claims every id in an order of its own and says how many it got (claim-table.test.ts). */
const { shared, ids, order } = workerData as { shared: SharedClaims; ids: number; order: number }
const table = ClaimTable.attach(shared)
const got: number[] = []
for (let i = 0; i < ids; i++) {
  const number = (i * order + order) % ids
  if (table.claim(createHash('sha256').update(`id ${number}`).digest())) got.push(number)
}
parentPort?.postMessage(got)
