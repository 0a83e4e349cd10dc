import { type Beside, measureBeside } from '../lib/beside.ts'
import { type Measurement, median } from '../lib/contest.ts'
import { type BenchServer, pgbenchFor, startBenchServer } from '../lib/postgres.ts'
import { type Command, execute } from '../lib/run.ts'
import { regainPlace, type Setting } from '../lib/setting.ts'

const CLIENTS = 8
const PHASE_MS = 3000
/** Pairs of phases in a round. */
const PAIRS = 5
const LONGEST_SECONDS = 3600

interface Candidate {
  name: string
  command: Command
  /** Bytes of a backup of it that has ended; 0: those that the server says it sent are counted. */
  bytesEach: number
}

/** What backups cost a server that is busy on the same machine: full ones, each beginning when the last has ended. */
export async function pgLoad(setting: Setting): Promise<Measurement[]> {
  const server = await startBenchServer(setting, setting.isTrial ? 0.05 : 1)
  const candidates: Candidate[] = [{ name: 'nothing', command: { argv: ['sleep', '3600'] }, bytesEach: 0 }]
  for (const limits of ['{}', '{ busy: 2% }', '{ busy: 100% }']) {
    const place = regainPlace(setting, `pg-load-${candidates.length}`, source(server), limits)
    await place.reset()
    await execute({ argv: place.argv('backup', 'bench') })
    const name = limits === '{}' ? 'regain, nothing configured' : `regain, \`limits: ${limits}\``
    candidates.push({ name, command: { argv: place.argv('backup', 'bench', '--full') }, bytesEach: 0 })
  }
  await server.resetPgBackRest()
  candidates.push({
    name: 'pgBackRest',
    command: server.pgBackRest('--type=full', 'backup'),
    bytesEach: server.databaseBytes,
  })
  return [{ measure: (rounds, tell) => measureAll(server, candidates, setting.isTrial ? 1 : rounds * PAIRS, tell) }]
}

function source(server: BenchServer): string {
  return `{ type: postgres, url: "${server.url}", log: none }`
}

async function measureAll(
  server: BenchServer,
  candidates: readonly Candidate[],
  pairs: number,
  tell: (line: string) => void,
): Promise<string> {
  const load = pgbenchFor(server, CLIENTS, LONGEST_SECONDS)
  const rows: string[][] = []
  for (const { name, command, bytesEach } of candidates) {
    const beside = await measureBeside(server, load, command, { pairs, phaseMs: PHASE_MS })
    const row = [name, ...figures(beside, bytesEach)]
    tell(`pg-load: ${row.join(' | ')}`)
    rows.push(row)
  }
  const header = [
    'beside pgbench',
    'tps alone',
    'tps beside',
    'kept',
    'middle half',
    'backed up, MB/s',
    'backups ended',
  ]
  const lines = [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`)
  return `## pg-load

pgbench with ${CLIENTS} clients at full speed on ${(server.databaseBytes / 1e9).toFixed(2)} GB of its tables, running through, while full backups of the cluster are
taken on the same machine, one right after the other: the worst case. Every ${PHASE_MS / 1000} seconds the backup is stopped or goes on;
"kept" is the throughput beside it as a share of that in the phase before, the median of ${pairs} such pairs (wanted: 0.90), and
"middle half" has its quartiles; "nothing" is the noise of the measurement. Transactions by the server's own count.
pgBackRest: process-max=2, zst level 1, AES-256; of it backups that ended are counted alone.

${lines.join('\n')}
`
}

function figures({ alone, beside, kept, ended, seconds, streamedBytes }: Beside, bytesEach: number): string[] {
  const sorted = [...kept].sort((a, b) => a - b)
  const at = (share: number) => (sorted[Math.round((sorted.length - 1) * share)] ?? Number.NaN).toFixed(2)
  const bytes = bytesEach === 0 ? streamedBytes : ended * bytesEach
  return [
    alone.toFixed(0),
    beside.toFixed(0),
    median(kept).toFixed(2),
    `${at(0.25)} – ${at(0.75)}`,
    (bytes / 1e6 / seconds).toFixed(1),
    String(ended),
  ]
}
