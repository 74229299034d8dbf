/** What the keyboard does: the palette, the messages, the ways between conversations and parts of the page. */
import assert from 'node:assert/strict'
import { becomes, type Person } from './person.ts'
import { type Case, left, newcomer } from './stage.ts'

let olga: Person
let paul: Person

export const keyCases: Case[] = [
  [
    'a link that names somebody looks for them, and begins nothing by itself',
    async stage => {
      const rita = await newcomer(stage, 'Rita')
      const sven = await newcomer(stage, 'Sven')
      await rita.page.goto(`${stage.url}/u/sven`)
      const dialog = rita.page.getByRole('dialog', { name: 'Find someone' })
      await dialog.getByRole('button', { name: 'Sven' }).waitFor()
      assert.match(rita.page.url(), /\/app$/)
      assert.equal(await rita.list.getByRole('link').count(), 0)
      await dialog.getByRole('button', { name: 'Sven' }).click()
      await rita.log.waitFor()
      await left(stage, rita)
      await left(stage, sven)
    },
  ],
  [
    'the palette goes to conversations and people, does what there is to do, and gives the focus back',
    async stage => {
      olga = await newcomer(stage, 'Olga')
      paul = await newcomer(stage, 'Paul')
      const { page } = olga
      const palette = page.getByRole('dialog', { name: 'Search' })
      const field = palette.getByRole('combobox')
      const active = palette.getByRole('option', { selected: true })
      await page.keyboard.press('Control+k')
      await palette.waitFor()
      assert.equal(await field.evaluate(one => one.matches(':focus')), true)
      await page.keyboard.type('pau')
      await palette.getByRole('group', { name: 'People' }).getByRole('option', { name: 'Paul' }).waitFor()
      await becomes(() => active.locator('bdi').innerText(), 'Paul', 'the first hit is the one that Enter takes')
      await page.keyboard.press('Enter')
      await olga.log.waitFor()
      await olga.write('By keys alone')
      await page.keyboard.press('Control+k')
      await palette.waitFor()
      await page.keyboard.press('Control+k')
      await palette.waitFor({ state: 'detached' })
      assert.equal(await olga.field.evaluate(one => one.matches(':focus')), true, 'the field has the focus again')
      await page.keyboard.press('Control+k')
      await page.keyboard.type('new gr')
      await page.keyboard.press('Enter')
      await page.getByRole('dialog', { name: 'New group' }).waitFor()
      await page.keyboard.press('Control+k')
      assert.equal(await page.getByRole('dialog').count(), 1, 'no dialog upon a dialog')
      await page.keyboard.press('Escape')
      await page.getByRole('button', { name: 'Search' }).click()
      await page.keyboard.type('qqqq')
      await palette.getByText('Nothing found for “qqqq”. Try fewer words.').waitFor()
      await page.keyboard.press('Escape')
      await palette.waitFor({ state: 'detached' })
    },
  ],
  [
    'in the log the arrows go from message to message, and one is copied by a key',
    async () => {
      const { page } = olga
      await olga.context.grantPermissions(['clipboard-read', 'clipboard-write'])
      for (let i = 1; i <= 30; i++) await olga.write(`line ${i}.`)
      await olga.reaches('line 30.', 'delivered')
      const focused = () => page.locator('article:focus')
      await page.keyboard.press('F6')
      await page.keyboard.press('F6')
      await becomes(
        async () => (await focused().innerText()).includes('line 30.'),
        true,
        'F6 comes to the last message',
      )
      for (let i = 0; i < 25; i++) await page.keyboard.press('ArrowUp')
      await becomes(async () => (await focused().innerText()).includes('line 5.'), true, 'up')
      const seen = await focused().evaluate(row => {
        const [inner, outer] = [row.getBoundingClientRect(), row.closest('[role=log]')!.getBoundingClientRect()]
        return inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1
      })
      assert.equal(seen, true, 'the focused message is in view')
      await page.keyboard.press('ArrowDown')
      await becomes(async () => (await focused().innerText()).includes('line 6.'), true, 'down')
      await page.keyboard.press('c')
      await becomes(
        () => olga.log.evaluate(log => log.ownerDocument.defaultView.navigator.clipboard.readText()),
        'line 6.',
        'copied',
      )
      assert.equal(await page.locator('[role=log] article[tabindex="0"]').count(), 1, 'Tab comes to one message')
      await olga.log.evaluate(log => (log.scrollTop = log.scrollHeight))
      await olga.row('line 30.').waitFor()
      await becomes(
        async () => (await focused().innerText()).includes('line 6.'),
        true,
        'it keeps the focus out of view',
      )
      await page.keyboard.press('F6')
      assert.equal(await olga.field.evaluate(one => one.matches(':focus')), true)
    },
  ],
  [
    'Alt and the arrows go to other conversations, with Shift to unread ones; the help names the keys; Esc closes the panel',
    async stage => {
      const { page } = olga
      await olga.group('First', paul)
      await olga.group('Second', paul)
      const title = page.locator('main header h1')
      await becomes(() => title.innerText(), 'Second', 'the newest')
      await page.keyboard.press('Alt+ArrowDown')
      await becomes(() => title.innerText(), 'First', 'the next one down')
      await page.keyboard.press('Alt+ArrowUp')
      await becomes(() => title.innerText(), 'Second', 'and up again')
      await paul.open('Olga')
      await paul.write('Unread')
      await olga.list.getByRole('link', { name: 'Paul, 1 unread' }).waitFor()
      await page.keyboard.press('Alt+ArrowDown')
      await becomes(() => title.innerText(), 'First', 'away from the top')
      await page.keyboard.press('Alt+Shift+ArrowUp')
      await becomes(() => title.innerText(), 'Paul', 'the unread one')
      await page.keyboard.press('Control+/')
      const help = page.getByRole('dialog', { name: 'Keyboard' })
      await help.getByText('Stop the answer').waitFor()
      await page.keyboard.press('Escape')
      await help.waitFor({ state: 'detached' })
      await olga.open('First')
      await page.getByRole('button', { name: 'People', exact: true }).click()
      const panel = page.getByRole('complementary', { name: 'People' })
      await panel.waitFor()
      await page.keyboard.press('Escape')
      await panel.waitFor({ state: 'detached' })
      await left(stage, olga)
      await left(stage, paul)
    },
  ],
]
