export type Period = 'daily' | 'weekly' | 'monthly' | 'yearly'

/** From the finest to the coarsest. */
export const PERIODS: readonly Period[] = ['daily', 'weekly', 'monthly', 'yearly']

export type Calendar = (moment: number, period: Period) => string

const DAY_MS = 86_400_000

/**
 * The name of the period that a moment (milliseconds since the epoch) lies in, by the wall clock of a time zone:
 * '2026-05-01', '2026-W18' (ISO 8601: weeks begin on Monday and belong to the year of their Thursday), '2026-05', '2026'.
 * A day on which clocks change is one day, however long.
 */
export function calendarOf(timeZone: string): Calendar {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    calendar: 'gregory',
    numberingSystem: 'latn',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
  })
  return (moment, period) => {
    const part = Object.fromEntries(format.formatToParts(moment).map(({ type, value }) => [type, Number(value)]))
    return nameOf(period, part.year ?? 0, part.month ?? 0, part.day ?? 0)
  }
}

function nameOf(period: Period, year: number, month: number, day: number): string {
  switch (period) {
    case 'daily':
      return `${digits(year, 4)}-${digits(month, 2)}-${digits(day, 2)}`
    case 'weekly':
      return weekOf(Date.UTC(year, month - 1, day))
    case 'monthly':
      return `${digits(year, 4)}-${digits(month, 2)}`
    case 'yearly':
      return digits(year, 4)
  }
}

function weekOf(midnight: number): string {
  const fromMonday = (new Date(midnight).getUTCDay() + 6) % 7
  const thursday = new Date(midnight + (3 - fromMonday) * DAY_MS)
  const year = thursday.getUTCFullYear()
  const week = 1 + Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * DAY_MS))
  return `${digits(year, 4)}-W${digits(week, 2)}`
}

function digits(value: number, count: number): string {
  return String(value).padStart(count, '0')
}
