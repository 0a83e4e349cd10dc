import { join } from 'node:path'
import { type Catalog, openCatalog } from '../catalog/catalog.ts'
import { addSetting } from '../config/add-setting.ts'
import { RegainError } from '../errors.ts'
import type { Ambient } from '../model.ts'
import { type CommandRunner, runRegain, startRegain } from './commands.ts'
import type { Narrator } from './narrator.ts'
import { megabytes, seconds } from './report.ts'
import type { Stage } from './stage.ts'
import { waitFor } from './wait.ts'

/** `regain serve` at work, as other processes see it: through the state file. */
export interface Protection {
  /** Everything committed by this moment is durable in the repository, in ms since the epoch; null: nothing yet. */
  durableUntil(): number | null
  /** Process of `regain serve`. */
  readonly pid: number
  /** Ends `regain serve` as a power cut would: nothing more is shipped. Rejects if it had ended before by itself. */
  kill(): Promise<void>
}

const FIRST_STATUS_LIMIT_MS = 60_000

/** Types the commands that a new user would, and leaves the log being followed. */
export async function protect(
  runner: CommandRunner,
  stage: Stage,
  narrator: Narrator,
  ambient: Ambient,
): Promise<Protection> {
  const database = "'${SHOP_DATABASE_URL}'"
  narrator.command(`regain init --yes --service shop --postgres ${database} --files uploads --destination backups`)
  await runRegain(runner, [
    ...['init', '--yes', '--service', 'shop', '--postgres', '${SHOP_DATABASE_URL}'],
    ...['--files', 'uploads', '--destination', 'backups'],
  ])
  // Else what runs beside the demo decides how long it takes: docs/decisions/0039.
  await addSetting(join(stage.directory, 'regain.yaml'), ['services', 'shop'], 'limits', { busy: '100%' })
  narrator.command('regain check shop')
  await runRegain(runner, ['check', 'shop'])
  narrator.tell('The database, the folder, the key and the repository are fit for it.')
  await backup(runner, narrator, 'shop')

  narrator.command('regain serve &')
  const logFile = join(stage.directory, 'serve.log')
  const serve = await startRegain(runner, ['serve'], logFile)
  stage.later('stopping regain serve', async () => {
    await serve.end()
  })
  const catalog = openCatalog({ directory: stateDirectory(stage), ambient, pid: process.pid })
  stage.later('closing the state file', async () => catalog.close())

  await waitFor('The log being followed', FIRST_STATUS_LIMIT_MS, runner.signal, () => {
    const ended = serve.ended()
    if (ended !== null) throw new RegainError('internal', `regain serve has ended (${ended}); see ${logFile}.`)
    return durableUntil(catalog)
  })
  narrator.tell('The log of the database is followed from now on; its tail is shipped every 3 seconds.')
  return {
    durableUntil: () => durableUntil(catalog),
    pid: serve.pid,
    async kill() {
      const ended = serve.ended()
      if (ended !== null) throw new RegainError('internal', `regain serve had ended by itself (${ended}).`)
      await serve.kill()
    },
  }
}

/** Takes a point of each source of the target, and tells what it took. */
export async function backup(runner: CommandRunner, narrator: Narrator, target: string): Promise<void> {
  narrator.command(`regain backup ${target}`)
  const { results } = await runRegain(runner, ['backup', target])
  for (const { source, bytes, durationMs } of results as unknown as BackupResult[]) {
    narrator.tell(
      `${source}: ${megabytes(bytes.source)}, of which ${megabytes(bytes.read)} read and ${megabytes(bytes.stored)} stored, in ${seconds(durationMs)}`,
    )
  }
}

/** Where the commands keep their state: the runner's environment says so. */
export function stateDirectory(stage: Stage): string {
  return join(stage.directory, 'state', 'regain')
}

/** The commands run in the stage's directory, and read and write nothing elsewhere. */
export function makeRunner(
  stage: Stage,
  databaseUrl: string,
  from: Pick<CommandRunner, 'regain' | 'environment' | 'signal' | 'now'>,
): CommandRunner {
  const environment: Record<string, string | undefined> = {
    ...from.environment,
    SHOP_DATABASE_URL: databaseUrl,
    XDG_STATE_HOME: join(stage.directory, 'state'),
  }
  // It would lead the commands to somebody's real configuration.
  delete environment.REGAIN_CONFIG
  return { ...from, directory: stage.directory, environment }
}

/** As --json gives it (docs/cli.md). */
interface BackupResult {
  source: string
  durationMs: number
  bytes: { source: number; read: number; stored: number }
}

function durableUntil(catalog: Catalog): number | null {
  const row = catalog.followers().find(({ source }) => source === 'db')
  return row?.durableUntil == null ? null : Date.parse(row.durableUntil)
}
