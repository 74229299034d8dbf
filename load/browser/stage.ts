/** What the cases of the browser suite play on. */
import type { Browser, BrowserContextOptions } from 'playwright-core'
import { Person } from './person.ts'

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

/** Somebody who was not there before: cases that begin with newcomers stand alone. */
export async function newcomer(stage: Stage, name: string, options: BrowserContextOptions = {}): Promise<Person> {
  const person = await Person.open(stage.browser, stage.url, name, {
    viewport: { width: 1440, height: 900 },
    ...options,
  })
  stage.people.push(person)
  await person.register()
  return person
}

/** They go, and nothing may have been wrong with their pages. */
export async function left(stage: Stage, person: Person): Promise<void> {
  person.check()
  stage.people.splice(stage.people.indexOf(person), 1)
  await person.context.close()
}
