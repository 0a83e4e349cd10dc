import type { Window } from '../policy/schedule.ts'

const FORM = /^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])$/

/** '22:00-06:00'; null if it is no window. One that ends when it begins would be open always, or never. */
export function parseWindow(text: string): Window | null {
  const found = FORM.exec(text)
  if (found === null) return null
  const [startHour = 0, startMinute = 0, endHour = 0, endMinute = 0] = found.slice(1).map(Number)
  const window = { startMinute: startHour * 60 + startMinute, endMinute: endHour * 60 + endMinute }
  return window.startMinute === window.endMinute ? null : window
}
