/** What the cases about the assistant look at: the last answer, its calls, what waits for a decision, the list of tasks. */
import type { Locator } from 'playwright-core'
import type { Person } from './person.ts'

/** The answer in the last row has ended. */
export const answered = (person: Person, timeout = 10_000) =>
  person.rows.last().locator('footer').getByRole('button', { name: 'Copy' }).waitFor({ timeout })

/** Says something and answers the text of the answer. */
export async function asked(person: Person, text: string, timeout?: number): Promise<string> {
  await person.write(text)
  await answered(person, timeout)
  return person.rows.last().locator('.md').last().innerText()
}

/** The calls of the last answer, with their state. */
export const calls = (person: Person): Promise<string[]> =>
  person.rows
    .last()
    .locator('[data-tool]')
    .evaluateAll(all => all.map(one => `${one.getAttribute('data-tool')} ${one.getAttribute('data-state')}`))

export const waiting = (person: Person): Locator => person.rows.last().locator('[data-approval=open]')
export const panel = (person: Person): Locator => person.page.getByRole('complementary', { name: 'Tasks' })
export const people = (person: Person): Locator => person.page.getByRole('complementary', { name: 'People' })

/** Titles of the open tasks. Calls of one round are made at once, so their order is not given. */
export const open = (person: Person): Promise<string[]> => titles(person, 'Tasks')
export const done = (person: Person): Promise<string[]> => titles(person, 'Done')

async function titles(person: Person, list: string): Promise<string[]> {
  const all = panel(person).getByRole('list', { name: list, exact: true }).locator('.title > bdi:first-child')
  return (await all.allInnerTexts()).sort()
}
