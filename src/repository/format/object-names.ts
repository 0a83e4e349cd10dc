/** docs/format.md, Objects: what stands where in a repository. */
export const FORMAT_TEXT = 'FORMAT.txt'
export const RECOVERY_PROGRAM = 'recover.py'
export const REPOSITORY = 'repository.json'

export const PREFIX = {
  keys: 'keys/',
  packs: 'packs/',
  index: 'index/',
  sessions: 'sessions/',
  ends: 'ends/',
  receipts: 'receipts/',
  expired: 'expired/',
  pins: 'pins/',
  holds: 'holds/',
  generations: 'generations/',
  log: 'log/',
} as const

/** `hash`: hex SHA-256. The two-digit folders keep local directories short. */
export const packName = (hash: string) => `${PREFIX.packs}${hash.slice(0, 2)}/${hash}`
export const indexName = (hash: string) => `${PREFIX.index}${hash}`
export const sessionName = (id: string) => `${PREFIX.sessions}${id}`
export const endName = (id: string) => `${PREFIX.ends}${id}`
export const receiptName = (id: string) => `${PREFIX.receipts}${id}`
/** `random`: 32 hex digits; each expiry of a point has a record of its own. */
export const expiredName = (id: string, random: string) => `${PREFIX.expired}${id}-${random}`
export const pinName = (id: string) => `${PREFIX.pins}${id}`
export const holdName = (id: string) => `${PREFIX.holds}${id}`
/** 16 decimal digits, so that names sort as numbers. */
export const generationName = (generation: number) => `${PREFIX.generations}${String(generation).padStart(16, '0')}`

/** What was removed of a source's log, on purpose. */
export const trimPrefix = (source: string) => `${PREFIX.log}${source}/trims/`

export const lastComponent = (name: string) => name.slice(name.lastIndexOf('/') + 1)
