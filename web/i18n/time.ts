/** Times and days as people read them, by the browser's locale and clock. */
import { t } from './t.ts'

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hour12: false })
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'short' })
const short = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' })
const long = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' })
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' })
const dayMs = 86_400_000

export const hourMinute = (ts: string) => clock.format(new Date(ts))
export const exactTime = (ts: string) => full.format(new Date(ts))

/** Days between two times on the local calendar. */
export function daysApart(ts: string, now: number): number {
  const at = (time: number) => new Date(time).setHours(0, 0, 0, 0)
  return Math.round((at(now) - at(Date.parse(ts))) / dayMs)
}

export function dayName(ts: string, now: number): string {
  const days = daysApart(ts, now)
  return days === 0 ? t('day.today') : days === 1 ? t('day.yesterday') : long.format(new Date(ts))
}

/** For the list: the hour today, the weekday this week, else the date. */
export function shortTime(ts: string, now: number): string {
  const days = daysApart(ts, now)
  return days === 0 ? hourMinute(ts) : days < 7 ? weekday.format(new Date(ts)) : short.format(new Date(ts))
}
