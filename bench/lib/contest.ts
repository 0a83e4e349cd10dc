import type { Cost } from './run.ts'

/** One program that takes part in a benchmark. */
export interface Contestant {
  /** 'regain', 'restic 0.19.1'. */
  name: string
  /** What is not timed: making the place for the run. */
  prepare?(): Promise<void>
  run(): Promise<Cost>
  /** What the run left behind, for example the repository's size: by name, for people. */
  left?(): Promise<Record<string, string>>
  /** Undoes the run, not timed. */
  clear?(): Promise<void>
}

export interface Contest {
  /** 'files-first'. */
  name: string
  /** What is measured, one line each. */
  notes: string[]
  /** Ours first. */
  contestants: Contestant[]
  /** Run before each round, not timed: for example the change of 1 % of the files. */
  beforeRound?(round: number): Promise<void>
  /** Peer's name without its version to the ratio peer / ours that is wanted. */
  bars: Record<string, number>
}

/** What is no race: measured in its own way, with its own text. */
export interface Measurement {
  /** Markdown, with its heading. */
  measure(rounds: number, tell: (line: string) => void): Promise<string>
}

export interface Score {
  name: string
  costs: Cost[]
  left: Record<string, string>
}

/**
 * Rounds of A B C, A B C, …: whatever slows the machine for a while slows all alike. One round before them is thrown
 * away, so that every program and the data are in the page cache.
 */
export async function hold(contest: Contest, rounds: number, tell: (line: string) => void): Promise<Score[]> {
  const scores: Score[] = contest.contestants.map(({ name }) => ({ name, costs: [], left: {} }))
  for (let round = 0; round <= rounds; round++) {
    await contest.beforeRound?.(round)
    for (const [i, contestant] of contest.contestants.entries()) {
      await contestant.prepare?.()
      const cost = await contestant.run()
      const score = scores[i]
      if (score && round > 0) score.costs.push(cost)
      if (score && round === rounds) score.left = (await contestant.left?.()) ?? {}
      await contestant.clear?.()
      const label = round === 0 ? 'warming up' : `round ${round}`
      tell(`${contest.name}, ${label}, ${contestant.name}: ${cost.seconds.toFixed(2)} s`)
    }
  }
  return scores
}

/** Median over the rounds of peer / ours, each pair taken from one round. */
export function ratio(ours: readonly Cost[], peer: readonly Cost[]): number {
  return median(peer.map((cost, i) => cost.seconds / (ours[i]?.seconds ?? Number.NaN)))
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const high = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? high : (high + (sorted[middle - 1] ?? Number.NaN)) / 2
}
