/**
 * What two people and the assistant do in the web app, on the real product. The cases run in order and build on each
 * other, as a day does; each names what it holds.
 */
import assert from 'node:assert/strict'
import { accessCases } from './access-cases.ts'
import { answerCases } from './answer-cases.ts'
import { dialogueCases } from './dialogue-cases.ts'
import { foreignCases } from './foreign-cases.ts'
import { keyCases } from './key-cases.ts'
import { noticeCases } from './notice-cases.ts'
import { offlineCases } from './offline-cases.ts'
import { becomes, Person, password } from './person.ts'
import { sizeCases } from './size-cases.ts'
import type { Case } from './stage.ts'
import { toolCases } from './tool-cases.ts'

const offlineNoise = /ERR_INTERNET_DISCONNECTED|WebSocket|ERR_NETWORK/

export const cases: Case[] = [
  [
    'two people register, and a wrong password is told in words',
    async stage => {
      stage.ada = await Person.open(stage.browser, stage.url, 'Ada')
      stage.ben = await Person.open(stage.browser, stage.url, 'Ben', { colorScheme: 'dark' })
      stage.people.push(stage.ada, stage.ben)
      await stage.ada.register()
      await stage.ben.register()
      const { ben } = stage
      assert.equal(await ben.page.locator('html').getAttribute('data-theme'), 'dark')
      await ben.page.getByRole('button', { name: 'Your account' }).click()
      await ben.page.getByRole('menuitem', { name: 'Sign out' }).click()
      await ben.page.getByRole('heading', { name: 'Sign in' }).waitFor()
      ben.expected = /401/
      await ben.signIn('wrong password')
      await ben.page.getByRole('alert').getByText('E-mail and password don’t match.').waitFor()
      ben.expected = undefined
      await ben.signIn(password)
      await ben.list.waitFor()
      await ben.page.getByRole('main').getByText('Nothing here yet. Find someone, or ask the assistant.').waitFor()
    },
  ],
  [
    'one finds the other by username, and ticks go from stored to delivered to read',
    async ({ ada, ben }) => {
      await ada.find(ben)
      await ada.page.getByText('This is where it starts. Say hello.').waitFor()
      await ada.write('Hello Ben')
      await ada.reaches('Hello Ben', 'delivered')
      await ben.list.getByRole('link', { name: 'Ada, 1 unread' }).waitFor()
      await ben.open('Ada')
      await ben.row('Hello Ben').waitFor()
      await ada.reaches('Hello Ben', 'read')
      await becomes(() => ben.list.getByRole('link', { name: 'unread' }).count(), 0, 'reading clears the badge')
      await ada.page.locator('main header').getByText('Online').waitFor()
    },
  ],
  [
    'who writes is shown while they write, and the answer comes at once',
    async ({ ada, ben }) => {
      await ben.field.pressSequentially('Hi', { delay: 20 })
      await ada.log.getByText('Ben is writing…').waitFor()
      await ben.write('Hi Ada')
      await ada.row('Hi Ada').waitFor()
      await ada.log.getByText('Ben is writing…').waitFor({ state: 'detached' })
      assert.deepEqual(await ada.texts(), ['Hello Ben', 'Hi Ada'])
      assert.deepEqual(await ben.texts(), ['Hello Ben', 'Hi Ada'])
    },
  ],
  [
    'a burst keeps its order on both sides',
    async ({ ada, ben }) => {
      const texts = Array.from({ length: 12 }, (_, i) => `burst ${i + 1}.`)
      for (const text of texts) await ada.write(text)
      const burst = async (person: Person) => (await person.texts()).filter(t => t.startsWith('burst'))
      await becomes(() => burst(ben), texts, 'order at the reader')
      await becomes(() => burst(ada), texts, 'order at the writer')
    },
  ],
  [
    'a reload finds everything, and the draft',
    async ({ ada }) => {
      await ada.field.fill('a thought not yet sent')
      await ada.page.waitForTimeout(500)
      const before = await ada.texts()
      await ada.page.reload()
      await ada.row('burst 12.').waitFor()
      assert.deepEqual(await ada.texts(), before)
      await ada.reaches('Hello Ben', 'read')
      await becomes(() => ada.field.inputValue(), 'a thought not yet sent', 'the draft')
      await ada.field.fill('')
    },
  ],
  [
    'a group is made, tells who came, and its answer from the assistant reaches both',
    async ({ ada, ben }) => {
      await ada.group('Oslo trip', ben)
      await ben.open('Oslo trip')
      await ben.log.getByText('Ada added you').waitFor()
      await ada.write('@assistant hello there')
      const answer = (person: Person) => person.rows.filter({ hasText: 'Copy' })
      await answer(ada).getByText('to you').waitFor()
      await answer(ben).getByText('to Ada').waitFor()
      assert.equal(
        await answer(ada).locator('.md').innerText(),
        await answer(ben).locator('.md').innerText(),
        'both read the same answer',
      )
      await ada.page.getByRole('button', { name: 'People', exact: true }).click()
      const panel = ada.page.getByRole('complementary', { name: 'People' })
      await panel.getByRole('button', { name: 'Options for Ben' }).click()
      await panel.getByRole('menuitem', { name: 'Make admin' }).click()
      await panel.getByText('admin', { exact: true }).waitFor()
      await ada.log.getByText('Ben is now admin').waitFor()
      await panel.getByRole('button', { name: 'Rename group' }).click()
      await ada.page.getByRole('dialog').getByLabel('Name of the group').fill('Oslo in May')
      await ada.page.getByRole('button', { name: 'Rename', exact: true }).click()
      await ben.log.getByText('Ada named this “Oslo in May”').waitFor()
      await ben.list.getByRole('link', { name: 'Oslo in May' }).waitFor()
    },
  ],
  [
    'an answer streams, grows on screen and ends whole',
    async ({ ada }) => {
      await ada.ask()
      await ada.write('#stream words=80 delay_ms=25')
      const text = ada.rows.last().locator('.md')
      await ada.page.getByRole('button', { name: 'Stop the answer' }).waitFor()
      await becomes(async () => (await text.innerText()).length > 20, true, 'text appears before the end')
      const early = (await text.innerText()).trim()
      await ada.rows.last().getByRole('button', { name: 'Copy' }).waitFor({ timeout: 20_000 })
      const late = await text.innerText()
      assert.ok(late.startsWith(early.slice(0, -1)), 'what was shown stays')
      assert.equal(late.trim().split(/\s+/).length, 80)
      await ada.page.reload()
      await becomes(
        async () => (await ada.rows.last().locator('.md').innerText()).trim(),
        late.trim(),
        'after a reload',
      )
    },
  ],
  [
    'an answer is stopped, keeps what arrived and says so',
    async ({ ada }) => {
      await ada.write('#stream words=600 delay_ms=20')
      const stop = ada.page.getByRole('button', { name: 'Stop the answer' })
      await stop.waitFor()
      await becomes(async () => (await ada.rows.last().locator('.md').innerText()).length > 10, true, 'it began')
      await stop.click()
      await ada.rows.last().getByText('Stopped. This is what arrived.').waitFor()
      await ada.page.getByRole('button', { name: 'Send' }).waitFor()
    },
  ],
  [
    'questions wait their turn, one can be taken back, and the first names the conversation',
    async ({ ada }) => {
      await ada.ask()
      await ada.write('#stream words=900 delay_ms=20')
      await ada.page.getByRole('button', { name: 'Stop the answer' }).waitFor()
      await ada.list.getByRole('link', { name: '#stream words=900' }).waitFor()
      await ada.write('The second question')
      const second = ada.row('The second question')
      await second.getByText('Queued, 1 before yours').waitFor()
      await ada.write('The third question')
      await ada.row('The third question').getByText('Queued, 2 before yours').waitFor()
      await second.getByRole('button', { name: 'Cancel' }).click()
      await ada.log.getByText('Stopped before anything was written.').waitFor()
      await ada.page.getByRole('button', { name: 'Stop the answer' }).click()
      await becomes(() => ada.rows.getByRole('button', { name: 'Copy' }).count(), 2, 'the stopped and the third answer')
    },
  ],
  [
    'what is written offline is sent once when the network is back',
    async ({ ada, ben }) => {
      await ada.open('Ben')
      await ben.open('Ada')
      ada.expected = offlineNoise
      await ada.context.setOffline(true)
      await ada.write('Written offline')
      await ada.write('And this after it')
      await ada.page.getByText('You’re offline. What you write is sent when you’re back.').first().waitFor()
      assert.equal(await ada.row('Written offline').locator('[data-tick=pending]').count(), 1)
      await ada.context.setOffline(false)
      await ada.reaches('And this after it', 'read')
      await becomes(
        async () => (await ben.texts()).slice(-2),
        ['Written offline', 'And this after it'],
        'once, in order',
      )
      assert.equal(await ada.row('Written offline').count(), 1)
      ada.expected = undefined
    },
  ],
  [
    'an unsent message survives a reload and leaves with its id',
    async ({ ada, ben }) => {
      let isCut = true
      await ada.page.routeWebSocket('**/ws', socket => {
        if (!isCut) socket.connectToServer()
      })
      await ada.page.reload()
      await ada.row('Written offline').waitFor()
      await ada.write('Before the reload')
      await ada.page.waitForTimeout(300)
      await ada.page.reload()
      await ada.row('Before the reload').locator('[data-tick=pending]').waitFor()
      isCut = false
      await ada.page.reload()
      await ada.reaches('Before the reload', 'read')
      await becomes(() => ben.row('Before the reload').count(), 1, 'stored once')
    },
  ],
  [
    'two tabs show the same, and reading in one reads in both',
    async ({ ada, ben }) => {
      const first = await ada.tab()
      await ada.open('Ben')
      await ada.write('From the second tab')
      const second = ada.page
      ada.front(first)
      await ada.row('From the second tab').waitFor()
      await ada.reaches('From the second tab', 'read')
      ada.front(second)
      await second.goto(`${ada.url}/app`)
      await first.goto(`${ada.url}/app`)
      await ben.write('To both tabs')
      await second.getByRole('link', { name: 'Ben, 1 unread' }).waitFor()
      ada.front(first)
      await first.getByRole('link', { name: 'Ben, 1 unread' }).waitFor()
      await ada.open('Ben')
      await becomes(() => second.getByRole('link', { name: 'Ben, 1 unread' }).count(), 0, 'the other tab knows')
      await second.close()
    },
  ],
  [
    'hostile text stays text: no dialog, no picture, no script, no request',
    async ({ ada, ben }) => {
      const hostile = [
        '<img src=x onerror=alert(1)> one',
        '<script>alert(1)</script> two',
        '![three](https://evil.example/a.png?q=secret)',
        '[four](javascript:alert(1))',
        '<a href="https://evil.example" onmouseover=alert(1)>five</a>',
        '<svg onload=alert(1)> six </svg>',
      ]
      for (const text of hostile) await ada.write(text)
      await ben.row('six').waitFor()
      const content = ben.rows.locator('.md')
      assert.equal(await content.locator('img, script, svg, iframe, style, form').count(), 0)
      assert.equal(await content.locator('a[href^="javascript:"], [onerror], [onload], [onmouseover]').count(), 0)
      for (const word of ['one', 'two', 'three', 'four', 'five', 'six']) await ben.row(word).first().waitFor()
    },
  ],
  [
    'history comes as one scrolls up, and the place is kept',
    async ({ ada }) => {
      const { page } = ada
      const id = /c\/([\w-]+)/.exec(page.url())?.[1]
      await page.evaluate(async conversation => {
        const signed = await fetch('/api/auth/refresh', {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: '{}',
        })
        const { access_token: token } = (await signed.json()) as { access_token: string }
        for (let i = 1; i <= 150; i++) {
          await fetch(`/api/conversations/${conversation}/messages`, {
            method: 'POST',
            headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
            body: JSON.stringify({ content: `line ${i}.${' more words'.repeat(i % 30)}` }),
          })
        }
      }, id)
      await ada.row('line 150.').waitFor()
      await page.reload()
      await ada.row('line 150.').waitFor()
      const box = (await ada.log.boundingBox())!
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2)
      let jumps = 0
      for (let i = 0; i < 80; i++) {
        const before = await topRows(ada)
        await page.mouse.wheel(0, -300)
        await page.waitForTimeout(60)
        const after = await topRows(ada)
        for (const [key, top] of before) {
          const now = after.get(key)
          // A step moves what is on screen down by the wheel's way at most; anything else is a jump.
          if (now !== undefined && (now - top > 330 || now - top < -30)) jumps++
        }
        if ((await ada.row('Hello Ben').count()) > 0) break
      }
      await ada.row('Hello Ben').waitFor()
      assert.equal(jumps, 0, 'rows on screen never jump')
      await page.getByRole('button', { name: 'To the newest message' }).click()
      await ada.row('line 150.').waitFor()
    },
  ],
  [
    'on a phone each pane is a page, and Back goes up',
    async stage => {
      const phone = await Person.open(stage.browser, stage.url, 'Ben', {
        viewport: { width: 360, height: 740 },
        hasTouch: true,
        isMobile: true,
      })
      stage.people.push(phone)
      await phone.page.goto(`${stage.url}/app`)
      await phone.signIn()
      await phone.open('Oslo in May')
      assert.equal(await phone.list.isVisible(), false)
      await phone.page.getByRole('button', { name: 'People', exact: true }).click()
      await phone.page.getByRole('complementary', { name: 'People' }).waitFor()
      await phone.page.goBack()
      await phone.field.waitFor()
      await phone.page.goBack()
      await phone.list.waitFor()
      const overflow = await phone.page.locator('html').evaluate(root => root.scrollWidth - root.clientWidth)
      assert.equal(overflow, 0, 'nothing scrolls sideways')
      await phone.context.close()
    },
  ],
  ...answerCases,
  ...sizeCases,
  ...toolCases,
  ...dialogueCases,
  ...offlineCases,
  ...noticeCases,
  ...keyCases,
  ...foreignCases,
  ...accessCases,
  [
    'themes are chosen and kept, and signing out closes the app',
    async ({ ada }) => {
      await ada.page.getByRole('button', { name: 'Your account' }).click()
      await ada.page.getByRole('menuitemradio', { name: 'Contrast' }).click()
      await ada.page.keyboard.press('Escape')
      await ada.page.reload()
      assert.equal(await ada.page.locator('html').getAttribute('data-theme'), 'contrast')
      await ada.list.waitFor()
      await ada.page.getByRole('button', { name: 'Your account' }).click()
      await ada.page.getByRole('menuitem', { name: 'Sign out' }).click()
      await ada.page.getByRole('heading', { name: 'Sign in' }).waitFor()
      await ada.page.goto(`${ada.url}/app`)
      await ada.page.getByRole('heading', { name: 'Sign in' }).waitFor()
    },
  ],
]

/** Where each message on screen stands, by its key. */
async function topRows(person: Person): Promise<Map<string, number>> {
  const rows = await person.log.evaluate(log => {
    const { top, bottom } = log.getBoundingClientRect()
    return [...log.querySelectorAll('article')]
      .map(row => [row.getAttribute('data-key') ?? '', row.getBoundingClientRect().top] as const)
      .filter(([, at]) => at > top && at < bottom)
  })
  return new Map(rows)
}
