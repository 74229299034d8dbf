/**
 * What is there without a network: the app itself, the list, the conversation and the answer as far as it had come; and that
 * nothing of it stays behind when somebody leaves.
 */
import assert from 'node:assert/strict'
import { answered, asked } from './answers.ts'
import { becomes, type Person } from './person.ts'
import { type Case, left, newcomer } from './stage.ts'

const offlineNoise = /ERR_INTERNET_DISCONNECTED|WebSocket|ERR_NETWORK|ERR_FAILED|Failed to load/
const endMs = 30_000
/** What is on screen is kept a second after it changed. */
const keptMs = 1500

export const offlineCases: Case[] = [
  [
    'a reload without a network in mid-answer shows the conversation and the answer so far, and then the rest',
    async stage => {
      const ida = await newcomer(stage, 'Ida')
      await ida.ask()
      const first = await asked(ida, 'help')
      await ida.write('#stream words=400 delay_ms=25')
      const text = ida.rows.last().locator('.md')
      await becomes(async () => (await text.innerText()).includes('stone13'), true, 'it began')
      await kept(ida)
      ida.expected = offlineNoise
      await ida.context.setOffline(true)
      await ida.page.reload()
      await ida.row('#stream words=400').waitFor()
      assert.equal(await ida.rows.nth(1).locator('.md').last().innerText(), first, 'what was said before is there')
      await becomes(async () => (await text.innerText()).includes('stone13'), true, 'the answer so far is there')
      const offline = await text.innerText()
      await ida.list.getByRole('link').first().waitFor()
      await ida.page.getByText('You’re offline.').first().waitFor()
      await stage.picture(ida, 'offline-mid-answer')
      await ida.context.setOffline(false)
      await answered(ida, endMs)
      const whole = await text.innerText()
      assert.ok(whole.startsWith(offline.trim()), 'what was shown stays')
      assert.equal(whole.trim().split(/\s+/).length, 400)
      ida.expected = undefined
      await left(stage, ida)
    },
  ],
  [
    'without a network another conversation opens from what was kept, what is written waits, and what came meanwhile follows',
    async stage => {
      const uwe = await newcomer(stage, 'Uwe')
      const vera = await newcomer(stage, 'Vera')
      await uwe.find(vera)
      await uwe.write('Before the tunnel')
      await vera.open('Uwe')
      await uwe.reaches('Before the tunnel', 'read')
      await uwe.ask()
      await vera.write('Read in the tunnel')
      await uwe.list.getByRole('link', { name: 'Vera, 1 unread' }).waitFor()
      await kept(uwe)
      uwe.expected = offlineNoise
      await uwe.context.setOffline(true)
      await uwe.page.reload()
      await uwe.open('Vera')
      await uwe.row('Before the tunnel').locator('[data-tick=read]').waitFor()
      await becomes(() => uwe.list.getByRole('link', { name: 'unread' }).count(), 0, 'it was read')
      await uwe.write('In the tunnel')
      await vera.write('Are you there?')
      await uwe.context.setOffline(false)
      await uwe.reaches('In the tunnel', 'read')
      await uwe.row('Are you there?').waitFor()
      await vera.reaches('Read in the tunnel', 'read')
      const all = ['Before the tunnel', 'Read in the tunnel', 'Are you there?', 'In the tunnel']
      assert.deepEqual(await uwe.texts(), all)
      uwe.expected = undefined
      await left(stage, uwe)
      await left(stage, vera)
    },
  ],
  [
    'signing out leaves nothing of what was read in the browser',
    async stage => {
      const wim = await newcomer(stage, 'Wim')
      await wim.ask()
      await asked(wim, 'help')
      await kept(wim)
      assert.notEqual(await remains(wim), '[]')
      await wim.page.getByRole('button', { name: 'Your account' }).click()
      await wim.page.getByRole('menuitem', { name: 'Sign out' }).click()
      await wim.page.getByRole('heading', { name: 'Sign in' }).waitFor()
      assert.equal(await remains(wim), '[]')
      await left(stage, wim)
    },
  ],
]

/** The app and what is on screen are where a reload without a network finds them. */
async function kept({ page }: Person): Promise<void> {
  await page.locator('html').evaluate(async html => {
    await html.ownerDocument.defaultView.navigator.serviceWorker.ready
  })
  await page.waitForTimeout(keptMs)
}

/** Everything in every database of the app in this browser, and who it says is signed in. */
const remains = ({ page }: Person): Promise<string> =>
  page.locator('html').evaluate(async html => {
    const { indexedDB, localStorage } = html.ownerDocument.defaultView
    type Asked = { result: unknown; onsuccess: () => void; onerror: () => void }
    const done = <T>(request: Asked) =>
      new Promise<T>((resolve, reject) => {
        request.onsuccess = () => resolve(request.result as T)
        request.onerror = () => reject(new Error('IndexedDB refused'))
      })
    const all: unknown[] = []
    for (const { name } of await indexedDB.databases()) {
      const db: ReturnType<typeof indexedDB.open>['result'] = await done(indexedDB.open(name))
      for (const store of db.objectStoreNames) {
        all.push(...(await done<unknown[]>(db.transaction(store).objectStore(store).getAll())))
      }
      db.close()
    }
    const me: unknown = localStorage.getItem('parley.me')
    return JSON.stringify(me === null ? all : [...all, me])
  })
