import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Narrator } from './narrator.ts'
import { reportPage } from './page.ts'
import { type DemoReport, seconds, thousands } from './report.ts'

/** Names of the files that a demo leaves in its report's directory. */
export const REPORT_FILES = ['report.json', 'report.html', 'acknowledged.tsv']

/** Writes the report and its evidence. `directory` null: into a new one below the system's temporary folder. */
export async function leaveReport(report: DemoReport, evidence: string, directory: string | null): Promise<string> {
  const place = directory ?? join(tmpdir(), `regain-demo-report-${report.startedAt.replaceAll(/[:.]/g, '-')}`)
  await mkdir(place, { recursive: true })
  const files = [`${JSON.stringify(report, null, 2)}\n`, reportPage(report), evidence]
  for (const [i, name] of REPORT_FILES.entries()) await writeFile(join(place, name), files[i] ?? '')
  return place
}

export function tellEnd(narrator: Narrator, report: DemoReport, directory: string): void {
  const proofs = report.acts.flatMap((act) => act.proofs)
  const failed = proofs.filter(({ passed }) => !passed)
  narrator.scene(failed.length === 0 ? 'Proven' : 'NOT PROVEN')
  for (const { title, rtoMs, rpoMs, lostCommits } of report.acts) {
    narrator.tell(`${title}: RTO ${seconds(rtoMs)}, RPO ${seconds(rpoMs)}, ${thousands(lostCommits)} commits lost`)
  }
  narrator.tell(`${proofs.length - failed.length} of ${proofs.length} proofs passed in ${seconds(report.durationMs)}.`)
  narrator.tell(`Report: ${join(directory, 'report.html')}`)
}

/** Bytes of all files below. */
export async function sizeOf(directory: string): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size
  }
  return bytes
}
