import { formatDuration } from '../config/duration.ts'
import type { Progress } from '../model.ts'
import { isHeldBack } from '../operations/gave-way.ts'
import { count, formatBytes, printable } from './format.ts'

/** Rates are of the last few seconds: an average since the start would hide that something has slowed down. */
const RATE_WINDOW_MS = 8000
/** Names the setting that has it so: who wonders why a backup is slow finds it in the documentation. */
const GIVES_WAY = 'waits: others keep the processors busy (limits: busy)'

/** Turns a stream of progress into one line of text; pure but for what it remembers of the last seconds. */
export class ProgressMeter {
  #samples: { atMs: number; bytes: number; gaveWayMs: number }[] = []
  #phase = ''

  /** The line for `progress`, at most `columns` wide. `nowMs` must not go backwards. */
  line(progress: Progress, nowMs: number, columns: number, isUnicode: boolean): string {
    const { rate, givesWay } = this.#lately(progress, nowMs)
    const total = progress.bytesTotal
    const facts: string[] = givesWay ? [GIVES_WAY] : []
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
    if (total === undefined || total <= 0)
      return shortened(`${head}  ${fitting(facts, columns - head.length - 2)}`, columns)

    const share = Math.min(1, progress.bytesDone / total)
    const percent = `${Math.floor(share * 100)} %`.padStart(5)
    const tail = fitting(facts, columns - head.length - percent.length - 3)
    const room = Math.min(30, columns - head.length - tail.length - percent.length - 8)
    const bar = room < 5 ? '' : `  ${drawBar(share, room, isUnicode)}`
    return shortened(`${head}${bar} ${percent}  ${tail}`, columns)
  }

  /** Bytes a second, or null while there is too little to say; and whether it waits for others. */
  #lately(progress: Progress, nowMs: number): { rate: number | null; givesWay: boolean } {
    if (progress.phase !== this.#phase) {
      this.#phase = progress.phase
      this.#samples = []
    }
    const { bytesDone: bytes, gaveWayMs = 0 } = progress
    this.#samples.push({ atMs: nowMs, bytes, gaveWayMs })
    while (this.#samples.length > 2 && nowMs - this.#samples[0]!.atMs > RATE_WINDOW_MS) this.#samples.shift()
    const first = this.#samples[0]!
    const elapsedMs = nowMs - first.atMs
    if (elapsedMs < 500) return { rate: null, givesWay: false }
    const rate = Math.max(0, ((bytes - first.bytes) / elapsedMs) * 1000)
    return { rate, givesWay: isHeldBack(gaveWayMs - first.gaveWayMs, elapsedMs) }
  }
}

/** As many of them, the first ones, as there is room for: half a number would be a wrong one. */
function fitting(facts: readonly string[], room: number): string {
  let count = facts.length
  while (count > 1 && facts.slice(0, count).join('  ').length >= room) count--
  return facts.slice(0, count).join('  ')
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
