import type { Proof } from './proofs.ts'

/** What `regain demo` leaves behind: report.json is this, report.html the same for people. */
export interface DemoReport {
  tool: string
  /** RFC 3339 UTC. */
  startedAt: string
  endedAt: string
  durationMs: number
  /** True only if every proof of every act passed. */
  passed: boolean
  machine: { processors: number; memoryBytes: number; system: string }
  shop: {
    postgres: string
    databaseBytes: number
    rows: Record<string, number>
    files: number
    fileBytes: number
    leftOut: string[]
  }
  /** What the repository holds of both, after compression and encryption. */
  repositoryBytes: number
  /** Moments, RFC 3339 UTC. */
  moments: { dropped: string; target: string; crashed: string; durableUntil: string }
  /** Commits that the server acknowledged to the shop. */
  acknowledged: number
  acts: ActReport[]
  story: StoryLine[]
}

export interface ActReport {
  title: string
  /** The command that recovered. */
  command: string
  /** The moment really reached, as the restore said. */
  reached: string
  /** From the command to a running database and the files in place: the RTO, measured. */
  rtoMs: number
  /** How much was lost: the RPO, measured. In act one of what was committed up to the moment. */
  rpoMs: number
  lostCommits: number
  proofs: Proof[]
}

export interface StoryLine {
  /** Since the beginning. */
  atMs: number
  kind: 'scene' | 'text' | 'command'
  text: string
}

/** '4.2 s', '0.04 s'. */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 100 ? 2 : 1)} s`
}

/** '512 MB', '1.4 GB'. */
export function megabytes(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`
}

export function thousands(count: number): string {
  return count.toLocaleString('en-US')
}
