import { isoMicroseconds } from './acknowledged.ts'
import { proveFolder, type Recovered, recover, tellProofs } from './acts.ts'
import type { CommandRunner } from './commands.ts'
import type { Accident, Crash } from './destruction.ts'
import type { KeptShop } from './keep.ts'
import type { Narrator } from './narrator.ts'
import type { OpenShop } from './opening.ts'
import { type Baseline, type Proof, proveEnd, proveMoment, proveTables, withClient } from './proofs.ts'
import { type ActReport, seconds, thousands } from './report.ts'
import type { Stage } from './stage.ts'
import type { TreeDescription } from './tree.ts'
import type { Writer } from './writer.ts'

/** What both acts work with. */
export interface Evidence {
  runner: CommandRunner
  stage: Stage
  shop: OpenShop
  narrator: Narrator
  writer: Writer
  baseline: Baseline
  uploads: TreeDescription
}

/** Three times the interval at which the log's tail is shipped: a busy machine ships late. */
const RPO_OBJECTIVE_MS = 15_000

export interface Act {
  report: ActReport
  kept: KeptShop
}

/** Back to the second before the accident: orders and all, and not a commit more. */
export async function actOne(evidence: Evidence, { targetUs }: Accident): Promise<Act> {
  const { narrator, shop, writer, baseline } = evidence
  narrator.scene('Act one: back to the second before the accident')
  // Three decimals: the target was made of whole milliseconds.
  const at = `${isoMicroseconds(targetUs).slice(0, -4)}Z`
  const recovered = await recover(evidence.runner, evidence.stage, shop, narrator, 'act-one', at)
  const proofs = await withClient(recovered.url, async (client) => [
    ...(await proveTables(client, shop.size, baseline, [])),
    ...(await proveMoment(client, shop.size, writer.commits, targetUs)),
  ])
  return finish(evidence, 'Act one: the second before the accident', recovered, proofs, { lost: 0, lossMs: 0 })
}

/** To the end of the log, accident included: what did the loss of the machine itself cost? */
export async function actTwo(evidence: Evidence, crash: Crash): Promise<Act> {
  const { narrator, shop, writer, baseline } = evidence
  narrator.scene('Act two: to the end of the log')
  const recovered = await recover(evidence.runner, evidence.stage, shop, narrator, 'act-two', null)
  const { tables, end } = await withClient(recovered.url, async (client) => ({
    tables: await proveTables(client, shop.size, baseline, ['orders']),
    end: await proveEnd(client, writer.commits, { ...crash, objectiveMs: RPO_OBJECTIVE_MS }),
  }))
  if (end.lost === 0) narrator.tell('Lost in the crash: nothing. Every acknowledged commit is there.')
  else narrator.tell(`Lost in the crash: ${thousands(end.lost)} commits of its last ${seconds(end.lossMs)}.`)
  return finish(evidence, 'Act two: the end of the log', recovered, [...tables, ...end.proofs], end)
}

async function finish(
  { narrator, uploads }: Evidence,
  title: string,
  recovered: Recovered,
  databaseProofs: Proof[],
  { lost, lossMs }: { lost: number; lossMs: number },
): Promise<Act> {
  const proofs = [...databaseProofs, await proveFolder(recovered.folder, uploads)]
  tellProofs(narrator, proofs)
  const { command, reached, rtoMs } = recovered
  const report = { title, command, reached, rtoMs, rpoMs: lossMs, lostCommits: lost, proofs }
  return { report, kept: { title, url: recovered.url, data: recovered.data } }
}
