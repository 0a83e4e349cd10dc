import { join } from 'node:path'
import { RegainError } from '../errors.ts'
import { findRunningServer, stopRunningServer } from '../sources/postgres/server/running-server.ts'
import { type CommandRunner, runRegain } from './commands.ts'
import type { Narrator } from './narrator.ts'
import type { OpenShop } from './opening.ts'
import type { Proof } from './proofs.ts'
import { seconds } from './report.ts'
import type { Stage } from './stage.ts'
import { compareTrees, describeTree, type TreeDescription } from './tree.ts'

/** A recovery that has happened: the database runs, the files are in place. */
export interface Recovered {
  command: string
  /** URL of the recovered shop, with its password. */
  url: string
  /** Data directory. */
  data: string
  /** Restored folder. */
  folder: string
  reached: string
  rtoMs: number
}

/** Runs one restore of everything and finds the server that it started. The stage will stop it. */
export async function recover(
  runner: CommandRunner,
  stage: Stage,
  shop: OpenShop,
  narrator: Narrator,
  name: string,
  at: string | null,
): Promise<Recovered> {
  const args = ['restore', 'shop', '--to', name, ...(at === null ? [] : ['--at', at]), '--start']
  const command = `regain ${args.join(' ')}`
  narrator.command(command)
  const data = join(runner.directory, name, 'db')
  stage.later(`stopping the database in ${name}`, () => stopServerOf(data))
  const { results, durationMs } = await runRegain(runner, args)

  const database = results.find((result) => result.source === 'db')
  if (database === undefined) throw new RegainError('internal', 'The restore said nothing of the database.')
  const server = await findRunningServer(data)
  if (server === null) throw new RegainError('internal', `No server runs on ${data}, though its restore started one.`)
  const { port } = server
  narrator.tell(
    `The shop is back on port ${port} as of ${database.reached}, the files too. It took ${seconds(durationMs)}.`,
  )
  return {
    command,
    url: shop.urlAt(port),
    data,
    folder: join(runner.directory, name, 'files'),
    reached: String(database.reached),
    rtoMs: durationMs,
  }
}

/** The folder is what it was, to the last attribute. */
export async function proveFolder(folder: string, expected: TreeDescription): Promise<Proof> {
  const { same, differences } = compareTrees(expected, await describeTree(folder))
  const shown = differences.slice(0, 3).join('; ')
  return {
    name: 'files and folders',
    passed: differences.length === 0,
    detail: `${same} of ${expected.size} the same in content, owner, mode, time, attributes and links${shown && `; ${shown}`}`,
  }
}

/** One line for each kind of proof that passed, and one for each that did not. */
export function tellProofs(narrator: Narrator, proofs: readonly Proof[]): void {
  const tables = proofs.filter((proof) => proof.passed && proof.name.startsWith('table '))
  if (tables.length > 0) {
    const names = tables.map(({ name }) => name.slice('table '.length)).join(', ')
    narrator.tell(`proven: every table as it must be, by hash: ${names}`)
  }
  for (const proof of proofs) {
    if (!proof.passed) narrator.tell(`FAILED: ${proof.name}: ${proof.detail}`)
    else if (!tables.includes(proof)) narrator.tell(`proven: ${proof.name}: ${proof.detail}`)
  }
}

/** Ends a server that a restore left running, if there is one. */
export async function stopServerOf(data: string): Promise<void> {
  const server = await findRunningServer(data)
  if (server !== null) await stopRunningServer(server)
}
