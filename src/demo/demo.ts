import { availableParallelism, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { RegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { formatAcknowledged, isoMicroseconds } from './acknowledged.ts'
import { runRegain } from './commands.ts'
import { destroyEverything, destroyOrders } from './destruction.ts'
import { leaveReport, REPORT_FILES, sizeOf, tellEnd } from './ending.ts'
import { changeFolder, type FolderSummary, makeFolder } from './folder.ts'
import { tellHowToExplore } from './keep.ts'
import { Narrator } from './narrator.ts'
import { type OpenShop, openForCustomers, openShop } from './opening.ts'
import { recordBaseline } from './proofs.ts'
import { backup, makeRunner, protect } from './protection.ts'
import { actOne, actTwo, type Evidence } from './recovery.ts'
import { type DemoReport, megabytes, seconds, thousands } from './report.ts'
import { makeStage, type Stage } from './stage.ts'
import { describeTree } from './tree.ts'
import { delay, waitFor } from './wait.ts'

export interface DemoOptions {
  /** Absent or empty; undefined: one is made below the system's temporary folder. */
  directory?: string
  /** Leaves everything running to be explored. */
  keep: boolean
  /** Size of the database, about; at least 20. */
  sizeMegabytes: number
}

export interface DemoContext {
  /** '0.1.0'. */
  version: string
  ambient: Ambient
  environment: Readonly<Record<string, string | undefined>>
  /** Program and first arguments that run Regain: the launcher. */
  regain: readonly string[]
  isRoot: boolean
  signal: AbortSignal
  /** A line for people. */
  say(line: string): void
}

/** How often the follower ships the log's tail, in ms: the default of a source's `tail`. */
const TAIL_MS = 5_000
const SMALLEST_MEGABYTES = 20
const DURABLE_LIMIT_MS = 60_000

/**
 * Protects a live shop, destroys it, recovers it twice and proves both. Resolves to the report, which is also left in
 * `reportDirectory` as JSON and as a page; its `passed` says whether every proof passed. Rejects when the story could
 * not be told to its end. Whatever happens nothing is left running or lying about, unless `keep` asks for it.
 */
export async function runDemo(options: DemoOptions, context: DemoContext): Promise<LeftReport> {
  if (!(options.sizeMegabytes >= SMALLEST_MEGABYTES)) {
    throw new RegainError('usage', `--size must be at least ${SMALLEST_MEGABYTES} megabytes. Nothing was done.`)
  }
  const stage = await makeStage(options.directory, options.sizeMegabytes, context.isRoot, REPORT_FILES)
  let isKept = false
  try {
    const report = await play(stage, options, context)
    isKept = options.keep
    return report
  } finally {
    if (context.signal.aborted) context.say('Interrupted: stopping and removing everything …')
    if (!isKept) for (const failure of await stage.strike()) context.say(`Could not be put away: ${failure}`)
  }
}

export type LeftReport = DemoReport & { reportDirectory: string }

async function play(stage: Stage, options: DemoOptions, context: DemoContext): Promise<LeftReport> {
  const { ambient, signal, say } = context
  const startedAt = ambient.now()
  const narrator = new Narrator(say, () => ambient.now())
  say('Regain demo: a shop loses its database and its files, and gets them back to the second.')
  say(`Everything happens in ${stage.directory}${options.keep ? '' : ', which is removed at the end'}.`)

  narrator.scene('The shop opens')
  const shop = await openShop(stage, options.sizeMegabytes, ambient, signal)
  const folder = join(stage.directory, 'uploads')
  const folderSummary = await makeFolder(folder, context.isRoot)
  const writer = await openForCustomers(shop, stage, ambient)
  tellOpening(narrator, shop, folderSummary)

  narrator.scene('It is protected')
  const { regain, environment } = context
  const runner = makeRunner(stage, shop.backupUrl, { regain, environment, signal, now: () => ambient.now() })
  const protection = await protect(runner, stage, narrator, ambient)
  await changeFolder(folder)
  narrator.tell('Some files change and are backed up again:')
  await backup(runner, narrator, 'shop/files')
  const uploads = await describeTree(folder)
  const baseline = await recordBaseline(shop.urlAt(shop.server.port), shop.size)
  narrator.tell(`Every table is hashed in one snapshot, ${thousands(baseline.seq)} new orders in. Business goes on.`)
  await delay(TAIL_MS, signal)

  const accident = await destroyOrders(shop, writer, narrator, signal)
  await waitFor('The log becoming durable past the accident', DURABLE_LIMIT_MS, signal, () =>
    (protection.durableUntil() ?? 0) > Number(accident.droppedUs / 1000n) + 1000 ? true : null,
  )
  // Neither just after a tail was shipped nor just before the next one: a crash does not choose.
  await delay(TAIL_MS / 2, signal)
  const crash = await destroyEverything(shop, writer, protection, folder, narrator, ambient)

  const evidence: Evidence = { runner, stage, shop, narrator, writer, baseline, uploads }
  const played = [await actOne(evidence, accident), await actTwo(evidence, crash)]
  const acts = played.map(({ report }) => report)

  narrator.scene('The repository itself')
  narrator.command('regain verify shop --read-data')
  const verified = await runRegain(runner, ['verify', 'shop', '--read-data'])
  narrator.tell(`Every byte of it read and checked in ${seconds(verified.durationMs)}.`)

  const report: DemoReport = {
    tool: `regain ${context.version}`,
    startedAt: new Date(startedAt).toISOString(),
    endedAt: new Date(ambient.now()).toISOString(),
    durationMs: narrator.elapsedMs,
    passed: acts.every((act) => act.proofs.every((proof) => proof.passed)),
    machine: { processors: availableParallelism(), memoryBytes: totalmem(), system: `Linux ${release()}` },
    shop: {
      postgres: shop.server.binaries.version,
      databaseBytes: shop.databaseBytes,
      rows: shop.rows,
      files: folderSummary.files,
      fileBytes: folderSummary.bytes,
      leftOut: folderSummary.leftOut,
    },
    repositoryBytes: await sizeOf(join(stage.directory, 'backups')),
    moments: {
      target: isoMicroseconds(accident.targetUs),
      dropped: isoMicroseconds(accident.droppedUs),
      durableUntil: new Date(crash.durableUntil).toISOString(),
      crashed: new Date(crash.at).toISOString(),
    },
    acknowledged: writer.commits.length,
    acts,
    story: narrator.lines,
  }
  const place = options.directory !== undefined || options.keep ? stage.directory : null
  const reportDirectory = await leaveReport(report, formatAcknowledged(writer.commits), place)
  tellEnd(narrator, report, reportDirectory)
  if (options.keep) {
    await tellHowToExplore(
      say,
      stage,
      regain,
      played.map(({ kept }) => kept),
    )
  }
  return { ...report, reportDirectory }
}

function tellOpening(narrator: Narrator, shop: OpenShop, folder: FolderSummary): void {
  const { orders = 0, documents = 0, attachments = 0 } = shop.rows
  narrator.tell(
    `PostgreSQL ${shop.server.binaries.version} on port ${shop.server.port} with ${megabytes(shop.databaseBytes)}: ` +
      `${thousands(orders)} orders, ${thousands(documents)} documents, ${thousands(attachments)} attachments`,
  )
  narrator.tell(`A folder of ${thousands(folder.files)} files: odd names, links, holes, attributes, owners`)
  if (folder.leftOut.length > 0) narrator.tell(`(not possible here, so not in it: ${folder.leftOut.join(', ')})`)
  narrator.tell('Customers order all the time. What the server acknowledges is written down outside of it.')
}
