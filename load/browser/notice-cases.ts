/** Notifications: asked for by their switch alone, of what concerns somebody who looks elsewhere, gone when that was read. */
import assert from 'node:assert/strict'
import { becomes, type Person } from './person.ts'
import { type Case, left, newcomer } from './stage.ts'

export const noticeCases: Case[] = [
  [
    'who looks elsewhere is notified of what concerns them, once for each conversation, until it was read anywhere',
    async stage => {
      const nina = await newcomer(stage, 'Nina')
      const otto = await newcomer(stage, 'Otto')
      await nina.context.grantPermissions(['notifications'])
      await otto.find(nina)
      await otto.write('Before the switch')
      await nina.list.getByRole('link', { name: 'Otto, 1 unread' }).waitFor()
      assert.deepEqual(await shown(nina), [], 'nothing unasked')
      await nina.page.getByRole('button', { name: 'Your account' }).click()
      await nina.page.getByRole('menuitemcheckbox', { name: 'Notifications' }).click()
      await nina.page.getByRole('menuitemcheckbox', { name: 'Notifications', checked: true }).waitFor()
      await nina.page.keyboard.press('Escape')
      await otto.write('Are you there?')
      await becomes(() => shown(nina), ['Otto: Are you there?'], 'told')
      await otto.write('Hello?')
      await becomes(() => shown(nina), ['Otto: Hello?'], 'one for the conversation')
      await nina.open('Otto')
      await becomes(() => shown(nina), [], 'gone when it was read')
      await otto.write('Now you see me')
      await nina.row('Now you see me').waitFor()
      await otto.group('Choir', nina)
      await nina.list.getByRole('link', { name: 'Choir' }).waitFor()
      await otto.write('For everyone')
      await otto.write('And for @nina alone')
      await becomes(() => shown(nina), ['Choir: Otto: And for @nina alone'], 'a mention, and nothing else')
      await left(stage, nina)
      await left(stage, otto)
    },
  ],
]

/** What the browser shows of this page, as title and text. */
const shown = ({ page }: Person): Promise<string[]> =>
  page.locator('html').evaluate(async html => {
    const { navigator } = html.ownerDocument.defaultView
    const registration = await navigator.serviceWorker.ready
    const all: { title: string; body: string }[] = await registration.getNotifications()
    return all.map(({ title, body }) => `${title}: ${body}`)
  })
