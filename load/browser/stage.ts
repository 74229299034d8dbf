/** What the cases of the browser suite play on. */
import type { Browser } from 'playwright-core'
import type { Person } from './person.ts'

export interface Stage {
  browser: Browser
  url: string
  people: Person[]
  ada: Person
  ben: Person
}

export type Case = [name: string, run: (stage: Stage) => Promise<void>]
