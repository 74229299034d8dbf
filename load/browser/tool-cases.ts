/**
 * What people do with the assistant's tools in the web app: tasks are added, listed, done and deleted, and what needs
 * approval is decided by whom it concerns. Runs after two people have met in a group.
 */
import assert from 'node:assert/strict'
import { answered, open, panel, people, waiting } from './answers.ts'
import { becomes } from './person.ts'
import type { Case } from './stage.ts'

export const toolCases: Case[] = [
  [
    'the assistant adds tasks; each call is a line that opens, and the list beside follows',
    async ({ ada }) => {
      await ada.ask()
      await ada.write('I need to buy milk, eggs, and bread')
      await answered(ada)
      const lines = ada.rows.last().locator('[data-tool=add_task][data-state=done]')
      await becomes(() => lines.count(), 3, 'a line for each')
      assert.deepEqual(await open(ada), ['bread', 'eggs', 'milk'])
      const first = lines.first().getByRole('button')
      assert.equal(await first.evaluate(line => line.parentElement?.getBoundingClientRect().height), 40)
      await first.click()
      await lines.first().getByText('Arguments').waitFor()
      await lines.first().getByRole('region', { name: 'Result' }).getByText('milk', { exact: true }).waitFor()
    },
  ],
  [
    'what is listed and done by word shows in the list, and what is done by hand is known to the assistant',
    async ({ ada }) => {
      await ada.write('what’s on my list?')
      await answered(ada)
      await ada.rows.last().getByText('Found 3 tasks').waitFor()
      await ada.write('mark milk done')
      await answered(ada)
      await becomes(() => open(ada), ['bread', 'eggs'], 'milk is done')
      await panel(ada).getByLabel('New task').fill('wax the skis')
      await panel(ada).getByRole('button', { name: 'Add', exact: true }).click()
      await becomes(() => open(ada), ['bread', 'eggs', 'wax the skis'], 'added by hand')
      await panel(ada).getByLabel('Done: bread').check()
      await becomes(() => open(ada), ['eggs', 'wax the skis'], 'done by hand')
      await panel(ada).getByRole('button', { name: 'Change eggs' }).click()
      await panel(ada).getByLabel('Title of the task').fill('brown eggs')
      await ada.page.keyboard.press('Enter')
      await becomes(() => open(ada), ['brown eggs', 'wax the skis'], 'renamed by hand')
      await ada.write('what’s on my list?')
      await answered(ada)
      await ada.rows.last().locator('.md').getByText('brown eggs').waitFor()
    },
  ],
  [
    'a deletion waits for its person, over a reload; refused, nothing is deleted',
    async ({ ada }) => {
      // A press in the first half second decides nothing: this one comes with the buttons.
      await ada.log.evaluate(log => {
        const view = log.ownerDocument.defaultView
        const watch = new view.MutationObserver(() => {
          const buttons = log.querySelectorAll('[data-approval=open] button')
          if (buttons.length === 0) return
          for (const button of buttons) if (button.textContent === 'Allow') button.click()
          watch.disconnect()
          log.setAttribute('data-pressed', '')
        })
        watch.observe(log, { childList: true, subtree: true })
      })
      await ada.write('delete the task wax the skis')
      const card = waiting(ada)
      await ada.page.locator('[data-pressed]').waitFor()
      await card.getByText('task_id').waitFor()
      assert.equal(await card.evaluate(box => box.matches(':focus-within')), false, 'nothing in it has the focus')
      const sizes = await card.getByRole('button').evaluateAll(all => all.map(b => b.getBoundingClientRect().width))
      assert.equal(sizes[0], sizes[1], 'both buttons are as wide')
      await ada.page.reload()
      await card.getByText('left').waitFor()
      const before = await card.evaluate(box => box.getBoundingClientRect().height)
      await card.getByRole('button', { name: 'Don’t allow' }).click()
      const decided = ada.rows.last().locator('[data-approval=refused]')
      await decided.getByText(/^Not allowed by you, /).waitFor()
      assert.equal(await decided.evaluate(box => box.getBoundingClientRect().height), before, 'the same box')
      await answered(ada)
      assert.deepEqual(await open(ada), ['brown eggs', 'wax the skis'])
    },
  ],
  [
    'allowed, it is deleted, told and gone from the list; two at once are allowed together',
    async ({ ada }) => {
      await ada.write('delete everything I’ve completed')
      await becomes(() => waiting(ada).count(), 2, 'each has its own card')
      await ada.rows.last().getByRole('button', { name: 'Allow all 2' }).click()
      await answered(ada)
      await becomes(() => ada.rows.last().locator('[data-approval=allowed]').count(), 2, 'both are allowed')
      await becomes(() => panel(ada).getByRole('listitem').count(), 2, 'the done ones are gone')
      await ada.page.reload()
      await becomes(() => ada.rows.last().locator('[data-approval=allowed]').count(), 2, 'after a reload too')
    },
  ],
  [
    'in a group only who asked decides, until the room lets everyone',
    async ({ ada, ben }) => {
      await ada.open('Oslo in May')
      await ben.open('Oslo in May')
      await ada.write('@assistant delete the task wax the skis')
      await waiting(ada).getByText('You decide.').waitFor()
      await waiting(ben)
        .getByText(/^Waiting for .Ada/)
        .waitFor()
      assert.equal(await waiting(ben).getByRole('button').count(), 0)
      await waiting(ada).getByRole('button', { name: 'Don’t allow' }).click()
      await ben.rows
        .last()
        .getByText(/^Not allowed by .Ada., /)
        .waitFor()
      await answered(ada)
      await ada.page.getByRole('button', { name: 'People', exact: true }).click()
      await people(ada).getByLabel('Who may allow what the assistant does').selectOption('members')
      await ben.log.getByText('Ada changed who decides on tools').waitFor()
      await ada.write('@assistant delete the task wax the skis')
      await waiting(ben).getByRole('button', { name: 'Allow', exact: true }).click()
      await ada.rows
        .last()
        .getByText(/^Allowed by .Ben., /)
        .waitFor()
      await answered(ada)
    },
  ],
]
