import { formatDuration } from '../config/duration.ts'
import type { Progress } from '../model.ts'
import { count, formatBytes, printable } from './format.ts'

/** Rates are of the last few seconds: an average since the start would hide that something has slowed down. */
const RATE_WINDOW_MS = 8000

/** Turns a stream of progress into one line of text; pure but for what it remembers of the last seconds. */
export class ProgressMeter {
  #samples: { atMs: number; bytes: number }[] = []
  #phase = ''

  /** The line for `progress`, at most `columns` wide. `nowMs` must not go backwards. */
  line(progress: Progress, nowMs: number, columns: number, isUnicode: boolean): string {
    const rate = this.#rate(progress, nowMs)
    const total = progress.bytesTotal
    const facts: string[] = []
    facts.push(
      total === undefined
        ? formatBytes(progress.bytesDone)
        : `${formatBytes(progress.bytesDone)} of ${formatBytes(total)}`,
    )
    if (progress.filesDone !== undefined) facts.push(count(progress.filesDone, 'file'))
    if (rate !== null) facts.push(`${formatBytes(rate)}/s`)
    if (rate !== null && rate > 0 && total !== undefined && total > progress.bytesDone) {
      facts.push(`${formatDuration(((total - progress.bytesDone) / rate) * 1000)} left`)
    }
    const head = printable(progress.phase)
    const tail = facts.join('  ')
    if (total === undefined || total <= 0) return shortened(`${head}  ${tail}`, columns)

    const share = Math.min(1, progress.bytesDone / total)
    const percent = `${Math.floor(share * 100)} %`.padStart(5)
    const room = Math.min(30, columns - head.length - tail.length - percent.length - 8)
    const bar = room < 5 ? '' : `  ${drawBar(share, room, isUnicode)}`
    return shortened(`${head}${bar} ${percent}  ${tail}`, columns)
  }

  /** Bytes a second, or null while there is too little to say. */
  #rate(progress: Progress, nowMs: number): number | null {
    if (progress.phase !== this.#phase) {
      this.#phase = progress.phase
      this.#samples = []
    }
    this.#samples.push({ atMs: nowMs, bytes: progress.bytesDone })
    while (this.#samples.length > 2 && nowMs - this.#samples[0]!.atMs > RATE_WINDOW_MS) this.#samples.shift()
    const first = this.#samples[0]!
    const elapsedMs = nowMs - first.atMs
    return elapsedMs < 500 ? null : Math.max(0, ((progress.bytesDone - first.bytes) / elapsedMs) * 1000)
  }
}

function drawBar(share: number, width: number, isUnicode: boolean): string {
  const done = Math.round(share * width)
  const [full, empty] = isUnicode ? ['█', '░'] : ['#', '-']
  return full!.repeat(done) + empty!.repeat(width - done)
}

function shortened(line: string, columns: number): string {
  // The last column stays free: writing into it makes some terminals wrap.
  return line.length < columns ? line : line.slice(0, Math.max(0, columns - 1))
}
