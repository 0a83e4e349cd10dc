import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Contest, median, ratio, type Score } from './contest.ts'

/** The result of one contest as text: medians with their range, and the ratio of each peer to us. */
export function contestText(contest: Contest, scores: readonly Score[]): string {
  const ours = scores[0]
  const names = [...new Set(scores.flatMap(({ left }) => Object.keys(left)))]
  const header = ['', 'seconds', 'from – to', 'CPU s', 'peak MB', ...names, 'peer / ours', 'wanted']
  const rows = scores.map((score, i) => {
    const seconds = score.costs.map((cost) => cost.seconds)
    const cpu = score.costs.map((cost) => cost.cpuSeconds ?? Number.NaN)
    const peak = score.costs.map((cost) => (cost.peakBytes ?? Number.NaN) / 1e6)
    const wanted = contest.bars[score.name.split(' ')[0] ?? '']
    return [
      score.name,
      figure(median(seconds)),
      `${figure(Math.min(...seconds))} – ${figure(Math.max(...seconds))}`,
      figure(median(cpu)),
      figure(median(peak), 0),
      ...names.map((name) => score.left[name] ?? ''),
      i === 0 || ours === undefined ? '' : `${ratio(ours.costs, score.costs).toFixed(2)}`,
      wanted === undefined ? '' : `${wanted}`,
    ]
  })
  const lines = [header, header.map(() => '---'), ...rows].map(
    (cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`,
  )
  return `## ${contest.name}\n\n${contest.notes.map((note) => `${note}  `).join('\n')}\n\n${lines.join('\n')}\n`
}

/** Writes bench/results/<name>.md. */
export function writeResult(
  name: string,
  machine: readonly string[],
  rounds: number,
  sections: readonly string[],
): string {
  const directory = join(import.meta.dirname, '..', 'results')
  mkdirSync(directory, { recursive: true })
  const path = join(directory, `${name}.md`)
  const date = new Date().toISOString().slice(0, 10)
  const head = [
    `# ${name}`,
    '',
    `${date}. ${rounds} rounds, taken in turn, after one that does not count; medians. "peer / ours" is the median of the`,
    'ratios within each round: above 1, we are faster.',
    '',
    ...machine.map((line) => `- ${line}`),
  ]
  writeFileSync(path, `${head.join('\n')}\n\n${sections.join('\n')}`)
  return path
}

function figure(value: number, digits = value < 1 ? 3 : 2): string {
  return Number.isNaN(value) ? '?' : value.toFixed(digits)
}
