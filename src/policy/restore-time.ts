/**
 * How long a restore will take, from how long earlier ones took on this machine. Pure. Work is bytes written and bytes of
 * log replayed: both go at the pace of the same disk and processors.
 */
export interface RestoreFact {
  workBytes: number
  durationMs: number
  /** It was of the same source. */
  isOfSource: boolean
}

export interface Prediction {
  durationMs: number
  /** For people: what it rests on. */
  basis: string
}

/** What is assumed where nothing was measured: a plain disk. */
const STATED_BYTES_PER_SECOND = 100 * 1000 * 1000
/** Opening the repository and reading its index take as long for a small restore; what took less tells nothing of a rate. */
const FEWEST_BYTES = 16 * 1000 * 1000
const FACTS_CONSIDERED = 5

/** `facts`: of restores that ended whole, newest first. The median of the last ones of the same source, else of any. */
export function predictRestore(workBytes: number, facts: readonly RestoreFact[]): Prediction {
  const telling = facts.filter((fact) => fact.workBytes >= FEWEST_BYTES && fact.durationMs > 0)
  const own = telling.filter(({ isOfSource }) => isOfSource)
  const used = (own.length > 0 ? own : telling).slice(0, FACTS_CONSIDERED)
  if (used.length === 0) {
    return {
      durationMs: (workBytes / STATED_BYTES_PER_SECOND) * 1000,
      basis: 'assuming 100 MB/s, since no restore of any size was measured on this machine yet',
    }
  }
  const rates = used.map((fact) => fact.workBytes / fact.durationMs).sort((a, b) => a - b)
  const rate = rates[Math.floor((rates.length - 1) / 2)] as number
  const of = own.length > 0 ? 'of this source' : 'of other sources'
  const count = used.length === 1 ? 'the last restore' : `the last ${used.length} restores`
  return {
    durationMs: workBytes / rate,
    basis: `at ${Math.round(rate / 1000).toLocaleString('en-US')} MB/s, as ${count} ${of} on this machine`,
  }
}
