import { RegainError } from '../errors.ts'
import type { Point } from '../model.ts'
import type { RestoreMoment } from '../sources/contract.ts'

const TIME = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|z|[+-]\d\d:\d\d)$/
const ZONELESS = /^\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?)?$/
const FORMS =
  'Write latest, a time such as 2026-11-20T14:59:59Z, the id of a point, lsn:16/B374D848, xid:7341 or name:TEXT.'

/** Reads WHEN. Rejects with `usage` in words that say what would be right. Times keep their fraction of a second. */
export function parseMoment(text: string): RestoreMoment {
  if (text === 'latest') return { kind: 'latest' }
  const time = TIME.exec(text)
  if (time !== null) return { kind: 'time', time: toUtc(text, time) }
  if (ZONELESS.test(text)) {
    throw new RegainError('usage', `The time "${text}" does not say its zone, so it could mean several moments.`, {
      hint: 'Write the whole time with its zone, such as 2026-11-20T14:59:59Z or 2026-11-20T15:59:59+01:00.',
    })
  }
  if (/^[0-9a-f]{4,32}$/i.test(text)) return { kind: 'point', id: text.toLowerCase() }
  if (/^lsn:[0-9a-f]{1,8}\/[0-9a-f]{1,8}$/i.test(text)) return { kind: 'lsn', lsn: text.slice(4).toUpperCase() }
  if (/^xid:[1-9]\d{0,19}$/.test(text)) return { kind: 'xid', xid: text.slice(4) }
  // A restore point's name holds at most 63 bytes in PostgreSQL.
  if (/^name:.{1,63}$/.test(text)) return { kind: 'name', name: text.slice(5) }
  throw new RegainError('usage', `"${text}" is not a moment.`, { hint: FORMS })
}

/** Adds --timeline and --exclusive. Rejects with `usage` where they mean nothing. */
export function refineMoment(
  moment: RestoreMoment,
  { timeline, exclusive }: { timeline?: string | undefined; exclusive?: boolean | undefined },
): RestoreMoment {
  if (exclusive && !['time', 'lsn', 'xid'].includes(moment.kind)) {
    throw new RegainError(
      'usage',
      `--exclusive says "right before", which ${formatMoment(moment)} has no meaning for.`,
      {
        hint: 'It goes with a time, a position (lsn:) or a transaction (xid:).',
      },
    )
  }
  if (timeline !== undefined && moment.kind === 'point') {
    throw new RegainError('usage', 'A point is restored as it is, on its own timeline: leave --timeline out.')
  }
  if (timeline !== undefined && !/^(latest|current|[1-9]\d{0,9})$/.test(timeline)) {
    throw new RegainError('usage', `"${timeline}" is not a timeline.`, {
      hint: 'Write its number, latest (the newest, which is the default), or current (that of the point which is restored).',
    })
  }
  const chosen = timeline === undefined || timeline === 'latest' ? undefined : timeline
  return {
    ...moment,
    ...(chosen === undefined ? {} : { timeline: chosen === 'current' ? chosen : Number(chosen) }),
    ...(exclusive ? { exclusive: true } : {}),
  }
}

/** Only a cluster's log has timelines, and moments to end right before. */
export function refuseLogChoice({ timeline, exclusive }: RestoreMoment, sourceType: string, name: string): void {
  if (sourceType === 'postgres' || (timeline === undefined && !exclusive)) return
  throw new RegainError(
    'usage',
    `--timeline and --exclusive are about the log of a PostgreSQL cluster, which ${name} has not. Nothing was done.`,
  )
}

/** How a moment is written, for messages. */
export function formatMoment(moment: RestoreMoment): string {
  const { timeline, exclusive } = moment
  const on =
    timeline === undefined ? '' : timeline === 'current' ? ", on the point's timeline" : `, on timeline ${timeline}`
  return `${exclusive ? 'right before ' : ''}${formatPlain(moment)}${on}`
}

function formatPlain(moment: RestoreMoment): string {
  switch (moment.kind) {
    case 'latest':
      return 'latest'
    case 'time':
      return moment.time
    case 'point':
      return `point ${moment.id}`
    case 'lsn':
      return `lsn:${moment.lsn}`
    case 'xid':
      return `xid:${moment.xid}`
    case 'name':
      return `name:${moment.name}`
  }
}

/**
 * The point that a restore to `moment` begins with, of `points` oldest first; null if none can serve. For a time it is
 * the newest point committed by then: a source with a log goes on from there, one without a log stops there.
 */
export function choosePoint(points: readonly Point[], moment: RestoreMoment): Point | null {
  switch (moment.kind) {
    case 'point':
      return onlyMatch(points, moment.id)
    case 'time': {
      const limit = comparableTime(moment.time)
      return points.findLast((point) => comparableTime(point.committedAt) <= limit) ?? null
    }
    default:
      return points.at(-1) ?? null
  }
}

function onlyMatch(points: readonly Point[], prefix: string): Point | null {
  const matches = points.filter((point) => point.id.startsWith(prefix))
  if (matches.length > 1) {
    throw new RegainError('usage', `${matches.length} points begin with ${prefix}.`, {
      hint: 'Write more digits of its id.',
    })
  }
  return matches[0] ?? null
}

function toUtc(text: string, [, date, clock, fraction = '', zone]: RegExpExecArray): string {
  const whole = new Date(`${date}T${clock}${zone!.toUpperCase()}`)
  // A day that does not exist (30 February) would silently become another one.
  const local = new Date(`${date}T${clock}Z`)
  if (Number.isNaN(whole.getTime()) || local.toISOString().slice(0, 19) !== `${date}T${clock}`) {
    throw new RegainError('usage', `"${text}" is not a time that exists.`, { hint: FORMS })
  }
  return `${whole.toISOString().slice(0, 19)}${fraction}Z`
}

/** Text of equal length for every RFC 3339 time in UTC, so that plain comparison is comparison of moments. */
function comparableTime(utc: string): string {
  const [seconds, fraction = ''] = utc.replace(/Z$/, '').split('.')
  return `${seconds}.${fraction.padEnd(9, '0')}`
}
