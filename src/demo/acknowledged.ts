/**
 * The writer's memory of what the database told it was committed, and the arithmetic of what a recovery brought back.
 * It is kept outside the database, so that it can bear witness. Pure.
 */
export interface Acknowledged {
  /** 1, 2, 3 ... without a gap: the next transaction begins when the one before was acknowledged. */
  seq: number
  /** 'order': order, lines and payment. 'payment': a payment alone. */
  kind: 'order' | 'payment'
  /** Milliseconds since the epoch, by this machine's clock, when the client had the server's word. */
  acknowledgedAt: number
  /**
   * The commit record's own time in microseconds since the epoch, which recovery compares its target with. Null if the
   * server died before it could be asked.
   */
  committedAtUs: bigint | null
}

/** Lines of the file that is kept: number, kind, acknowledged at, committed at. */
export function formatAcknowledged(commits: readonly Acknowledged[]): string {
  const lines = commits.map(
    ({ seq, kind, acknowledgedAt, committedAtUs }) =>
      `${seq}\t${kind}\t${new Date(acknowledgedAt).toISOString()}\t${committedAtUs === null ? '' : isoMicroseconds(committedAtUs)}\n`,
  )
  return lines.join('')
}

/** RFC 3339 UTC with six decimals. */
export function isoMicroseconds(us: bigint): string {
  const seconds = new Date(Number(us / 1_000_000n) * 1000).toISOString().slice(0, 19)
  return `${seconds}.${String(us % 1_000_000n).padStart(6, '0')}Z`
}

/** What a recovery to a moment must hold, exactly: everything committed up to it, nothing after. */
export interface MomentVerdict {
  expected: number
  /** Committed up to the moment, and not there. */
  missing: number[]
  /** There, though committed after the moment. */
  surplus: number[]
}

export function judgeMoment(
  commits: readonly Acknowledged[],
  recovered: ReadonlySet<number>,
  targetUs: bigint,
): MomentVerdict {
  const isExpected = ({ committedAtUs }: Acknowledged) => committedAtUs !== null && committedAtUs <= targetUs
  const expected = new Set(commits.filter(isExpected).map(({ seq }) => seq))
  return {
    expected: expected.size,
    missing: [...expected].filter((seq) => !recovered.has(seq)),
    surplus: [...recovered].filter((seq) => !expected.has(seq)),
  }
}

/** What a recovery to the end of the log holds, and what the crash cost. */
export interface EndVerdict {
  acknowledged: number
  recovered: number
  /** Acknowledged, and not there. */
  lost: number
  /** How long before the crash the oldest lost commit was acknowledged, in ms; 0 if none was lost. The RPO, measured. */
  lossMs: number
  /** Lost though the follower had said that it was durable. Must be empty. */
  brokenPromises: number[]
  /** Lost though a later one is there. Must be empty: a log is lost from its end. */
  holes: number[]
  /** There, though never acknowledged. One may be: the server died between its commit and its word. */
  unacknowledged: number[]
}

export function judgeEnd(
  commits: readonly Acknowledged[],
  recovered: ReadonlySet<number>,
  crashedAt: number,
  durableUntil: number,
): EndVerdict {
  const lost = commits.filter(({ seq }) => !recovered.has(seq))
  const newest = Math.max(0, ...recovered)
  const known = new Set(commits.map(({ seq }) => seq))
  const oldestLost = lost[0]
  return {
    acknowledged: commits.length,
    recovered: commits.length - lost.length,
    lost: lost.length,
    lossMs: oldestLost === undefined ? 0 : Math.max(0, crashedAt - oldestLost.acknowledgedAt),
    brokenPromises: lost.filter(({ acknowledgedAt }) => acknowledgedAt <= durableUntil).map(({ seq }) => seq),
    holes: lost.filter(({ seq }) => seq < newest).map(({ seq }) => seq),
    unacknowledged: [...recovered].filter((seq) => !known.has(seq)),
  }
}
