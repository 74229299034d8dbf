/** What the cases of the browser suite play on. */
import type { Browser } from 'playwright-core'
import type { Person } from './person.ts'

export interface Stage {
  browser: Browser
  url: string
  people: Person[]
  ada: Person
  ben: Person
  /** Ends every process that the parent can start again, as a machine does that loses power; needs a product of its own. */
  endEverything(): Promise<void>
  /** A picture of what a person sees, kept as a result. */
  picture(person: Person, name: string): Promise<void>
}

export type Case = [name: string, run: (stage: Stage) => Promise<void>]
