/**
 * What a machine can find wrong for people who hear the page, magnify it or go by keys: axe on every page, in every theme, wide
 * and narrow. It misses lost focus, order and sense; the cases about keys look at those.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { answered, asked, waiting } from './answers.ts'
import { becomes, Person } from './person.ts'
import { type Case, left, newcomer } from './stage.ts'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const themes = ['light', 'dark', 'contrast']

export const accessCases: Case[] = [
  [
    'a screen reader hears an answer in whole sentences and how it ended, or only what was chosen',
    async stage => {
      const anna = await newcomer(stage, 'Anna')
      await anna.ask()
      await hear(anna)
      await asked(anna, 'help')
      const hasEnd = async () => /^Done, \d+ words$/.test((await heard(anna)).at(-1) ?? '')
      await becomes(hasEnd, true, 'its end')
      const all = await heard(anna)
      assert.match(all[0]!, /^I am Parley’s built-in model: small rules, no network/, all.join(' | '))
      assert.ok(!all.some(sentence => /[*`#]{2}|\*/.test(sentence)), all.join(' | '))
      for (const [choice, wanted] of [
        ['Only their end', [all.at(-1)]],
        ['Nothing', []],
      ] as const) {
        await anna.page.getByRole('button', { name: 'Your account' }).click()
        await anna.page.getByRole('menuitemradio', { name: choice }).click()
        await anna.page.keyboard.press('Escape')
        await hear(anna)
        await asked(anna, 'help')
        await anna.page.waitForTimeout(300)
        assert.deepEqual(await heard(anna), wanted, choice)
      }
      await left(stage, anna)
    },
  ],
  [
    'axe finds nothing on the pages of who comes, in any theme',
    async stage => {
      const guest = await Person.open(stage.browser, stage.url, 'Guest', { viewport: { width: 360, height: 740 } })
      await guest.page.goto(stage.url)
      await guest.page.getByRole('heading', { name: 'Sign in' }).waitFor()
      const found = await faults(guest, 'login')
      await guest.page.getByRole('button', { name: 'New here? Create an account' }).click()
      found.push(...(await faults(guest, 'register')))
      assert.deepEqual(found, [])
      guest.check()
      await guest.context.close()
    },
  ],
  [
    'axe finds nothing on the pages of who is in, in any theme',
    async stage => {
      const xenia = await newcomer(stage, 'Xenia')
      const yuri = await newcomer(stage, 'Yuri')
      const { page } = xenia
      const found = await faults(xenia, 'empty home')
      await xenia.find(yuri)
      await xenia.write('Good morning')
      await yuri.open('Xenia')
      await yuri.write('Good morning to you')
      await xenia.row('to you').waitFor()
      found.push(...(await faults(xenia, 'direct')))
      await xenia.group('Orchestra', yuri)
      await page.getByRole('button', { name: 'People', exact: true }).click()
      await page.getByRole('complementary', { name: 'People' }).waitFor()
      await asked(xenia, '@assistant make a table')
      await asked(xenia, '@assistant show me some code')
      found.push(...(await faults(xenia, 'group and people')))
      await xenia.ask()
      found.push(...(await faults(xenia, 'empty conversation with the assistant')))
      await asked(xenia, 'I need to buy milk, eggs, bread and tea')
      await xenia.rows.last().getByRole('button', { name: '4 steps done' }).click()
      await xenia.rows.last().locator('[data-tool]').first().getByRole('button').click()
      await xenia.write('delete the task milk')
      await waiting(xenia).getByRole('button', { name: 'Allow', exact: true }).waitFor()
      found.push(...(await faults(xenia, 'tools and approval')))
      await waiting(xenia).getByRole('button', { name: 'Don’t allow' }).click()
      await answered(xenia)
      await xenia.write('#fault cut')
      await xenia.rows.last().getByRole('button', { name: 'Continue' }).waitFor({ timeout: 30_000 })
      found.push(...(await faults(xenia, 'an answer that broke off')))
      for (const [what, open] of [
        ['account', () => page.getByRole('button', { name: 'Your account' }).click()],
        ['palette', () => page.keyboard.press('Control+k')],
        ['keys', () => page.keyboard.press('Control+/')],
      ] as const) {
        await open()
        await page.waitForTimeout(300)
        found.push(...(await faults(xenia, what)))
        await page.keyboard.press('Escape')
      }
      for (const item of ['Find someone', 'New group']) {
        await page.getByRole('button', { name: 'New conversation', exact: true }).click()
        await page.getByRole('menuitem', { name: item }).click()
        found.push(...(await faults(xenia, item)))
        await page.keyboard.press('Escape')
      }
      await page.setViewportSize({ width: 360, height: 740 })
      found.push(...(await faults(xenia, 'the assistant, narrow')))
      await page.goto(`${stage.url}/app`)
      await xenia.list.getByRole('link').first().waitFor()
      found.push(...(await faults(xenia, 'list, narrow')))
      assert.deepEqual(found, [])
      await left(stage, xenia)
      await left(stage, yuri)
    },
  ],
]

/** From now on what is said politely is written down. */
const hear = ({ page }: Person): Promise<void> =>
  page.locator('#polite').evaluate(region => {
    const view = region.ownerDocument.defaultView
    view.heard = []
    view.listener?.disconnect()
    view.listener = new view.MutationObserver(() => view.heard.push(region.textContent))
    view.listener.observe(region, { childList: true, characterData: true, subtree: true })
  })
const heard = ({ page }: Person): Promise<string[]> =>
  page.locator('#polite').evaluate(region => region.ownerDocument.defaultView.heard)

interface Violation {
  id: string
  nodes: { html: string; failureSummary: string }[]
}

/** What axe says, a line for each kind of fault and theme. */
async function faults(person: Person, where: string): Promise<string[]> {
  const root = person.page.locator('html')
  await person.page.evaluate(axe)
  const before = await root.getAttribute('data-theme')
  const found: string[] = []
  const show = (theme: string | null) => root.evaluate((html, to) => html.setAttribute('data-theme', to), theme ?? '')
  for (const theme of themes) {
    await show(theme)
    const violations: Violation[] = await root.evaluate(async html => {
      const { axe } = html.ownerDocument.defaultView
      return (await axe.run()).violations
    })
    for (const { id, nodes } of violations) {
      found.push(`${where}, ${theme}: ${id}: ${nodes[0]?.html.slice(0, 200)} ${nodes[0]?.failureSummary}`)
    }
  }
  await show(before)
  return found
}
