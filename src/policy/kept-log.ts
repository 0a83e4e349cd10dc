/**
 * When a source is let go of log that it keeps for us. A source that keeps all that could not be stored yet fills its own
 * disk when the repository is away for long, and a database with a full disk stands still: worse than a gap in the log,
 * which a new point closes. Pure.
 */
export interface KeptLogFacts {
  /** What the source keeps only for us. */
  keptBytes: number
  /** Size from which the source itself gives the log up; null: it never does. */
  ownLimitBytes: number | null
  /** Of the file system that the log is on; null: it can't be seen from here. */
  disk: { freeBytes: number; totalBytes: number } | null
  /** Size of the data; null: nobody asked, because little is kept. */
  dataBytes: number | null
}

/** Bytes; or by what is known of the source; or not at all. */
export type KeptLogLimit = number | 'auto' | 'never'

export interface KeptLogVerdict {
  /** `near`: a person should know. */
  state: 'fine' | 'near' | 'give-up'
  /** Why, for people: '12.3 GB are kept, and …'. */
  reason: string
}

/** Nobody's disk is so small that it matters, and asking for the size of the data can wait until then. */
export const FEW_BYTES = 4e9
const RESERVE_SHARE = 0.1
const MOST_RESERVED_BYTES = 10e9
const DATA_SHARE = 0.5

export function judgeKeptLog(facts: KeptLogFacts, limit: KeptLogLimit): KeptLogVerdict {
  if (limit === 'auto') return judgeByWhatIsKnown(facts)
  if (limit !== 'never') return judgeSize(facts.keptBytes, limit, 'slotLimit allows')
  const known = judgeByWhatIsKnown(facts)
  return known.state === 'fine' ? known : { state: 'near', reason: `${known.reason}; slotLimit: never` }
}

function judgeByWhatIsKnown({ keptBytes, ownLimitBytes, disk, dataBytes }: KeptLogFacts): KeptLogVerdict {
  if (ownLimitBytes !== null) {
    // Whoever set it knows the disk better than we do.
    const verdict = judgeSize(keptBytes, ownLimitBytes, 'max_slot_wal_keep_size of the server allows')
    return verdict.state === 'give-up' ? { ...verdict, state: 'near' } : verdict
  }
  if (disk !== null) return judgeDisk(keptBytes, disk)
  if (keptBytes < FEW_BYTES / 2) return fine(keptBytes)
  const limit = Math.max(FEW_BYTES, (dataBytes ?? 0) * DATA_SHARE)
  return judgeSize(
    keptBytes,
    limit,
    'are let be kept on a disk that cannot be seen from here (half the size of the data)',
  )
}

/** Only where letting go helps: a disk that something else has filled is not saved by it. */
function judgeDisk(keptBytes: number, disk: { freeBytes: number; totalBytes: number }): KeptLogVerdict {
  const reserve = Math.min(disk.totalBytes * RESERVE_SHARE, MOST_RESERVED_BYTES)
  const reason = `${gigabytes(keptBytes)} are kept, and ${gigabytes(disk.freeBytes)} are free on the server's disk`
  if (disk.freeBytes < reserve && keptBytes >= disk.freeBytes) return { state: 'give-up', reason }
  if (disk.freeBytes < reserve * 2 && keptBytes * 2 >= disk.freeBytes) return { state: 'near', reason }
  return { state: 'fine', reason }
}

function judgeSize(keptBytes: number, limit: number, what: string): KeptLogVerdict {
  const reason = `${gigabytes(keptBytes)} are kept, of ${gigabytes(limit)} that ${what}`
  if (keptBytes >= limit) return { state: 'give-up', reason }
  return { state: keptBytes * 2 >= limit ? 'near' : 'fine', reason }
}

function fine(keptBytes: number): KeptLogVerdict {
  return { state: 'fine', reason: `${gigabytes(keptBytes)} are kept` }
}

function gigabytes(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
}
