import { type Contest, hold, type Measurement } from './lib/contest.ts'
import { describeMachine } from './lib/machine.ts'
import { contestText, writeResult } from './lib/result.ts'
import { leaveSetting, readSetting, type Setting } from './lib/setting.ts'
import { filesAgain, filesFirst } from './rows/files-backup.ts'
import { filesRestore, verify } from './rows/files-restore.ts'
import { pgFull, pgIncremental, pgLog } from './rows/postgres.ts'
import { pgLoad } from './rows/postgres-load.ts'
import { pgRestore, pgRestoreLater } from './rows/postgres-restore.ts'
import { filesMany, scale } from './rows/scale.ts'
import { start } from './rows/start.ts'

type Row = (setting: Setting) => Promise<(Contest | Measurement)[]>

/**
 * Benchmarks against peers, in the same run on the same data: `npm run bench -- NAME`. Results go to bench/results as
 * text, the machine described in them.
 */
const ROWS: Record<string, Row> = {
  'files-first': filesFirst,
  'files-again': filesAgain,
  'files-restore': filesRestore,
  'files-many': filesMany,
  verify,
  scale,
  'pg-full': pgFull,
  'pg-incremental': pgIncremental,
  'pg-restore': pgRestore,
  'pg-restore-later': pgRestoreLater,
  'pg-log': pgLog,
  'pg-load': pgLoad,
  start,
}

const setting = readSetting(process.argv.slice(2), process.env)
try {
  const names = setting.names.length === 0 ? Object.keys(ROWS) : setting.names
  for (const name of names) {
    const row = ROWS[name]
    if (row === undefined)
      throw new Error(`There is no benchmark "${name}". There are: ${Object.keys(ROWS).join(', ')}`)
    await runRow(name, row)
  }
} finally {
  leaveSetting(setting)
}

async function runRow(name: string, row: Row): Promise<void> {
  const tell = (line: string) => console.error(line)
  const machine = await describeMachine(setting.directory)
  const sections: string[] = []
  try {
    for (const contest of await row(setting)) {
      const text =
        'measure' in contest
          ? await contest.measure(setting.rounds, tell)
          : contestText(contest, await hold(contest, setting.rounds, tell))
      sections.push(text)
      console.log(text)
    }
  } finally {
    for (const undo of setting.undo.splice(0).reverse()) await undo()
  }
  if (setting.isTrial) console.error('A trial on small data: nothing is written to bench/results.')
  else console.error(`Written: ${writeResult(name, machine, setting.rounds, sections)}`)
}
