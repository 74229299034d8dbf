/** What the app costs before anything is seen, as it is served: bytes over the wire, and what moves while it is put in place. */
import assert from 'node:assert/strict'
import { gzipSync } from 'node:zlib'
import { becomes, Person } from './person.ts'
import type { Case } from './stage.ts'

/** gzip, bytes. */
const firstLoadMax = 151_000
const grammarsMax = 24_000
/** Sum of layout shifts: nothing moves that was seen. */
const shiftMax = 0.001

export const sizeCases: Case[] = [
  [
    'the first load is within its budget, and code colours come apart from it',
    async ({ url }) => {
      const read = async (path: string) => Buffer.from(await (await fetch(new URL(path, url))).arrayBuffer())
      const page = (await read('/')).toString()
      const files = [...page.matchAll(/(?:src|href)="(\/[^"]+\.(?:js|css))"/g)].map(found => found[1]!)
      assert.ok(files.length >= 3, files.join())
      const texts = await Promise.all(files.map(read))
      const first = texts.reduce((sum, text) => sum + gzipSync(text).length, 0)
      const apart = /grammars-[\w-]+\.js/.exec(texts.join('\n'))?.[0]
      assert.ok(apart, 'the grammars are a part of their own')
      const grammars = gzipSync(await read(`/assets/${apart}`)).length
      console.log(`     first load ${(first / 1000).toFixed(1)} kB, grammars ${(grammars / 1000).toFixed(1)} kB (gzip)`)
      assert.ok(first <= firstLoadMax, `${first} bytes`)
      assert.ok(grammars <= grammarsMax, `${grammars} bytes`)
    },
  ],
  [
    'a reload puts a conversation in place without shifting it',
    async ({ ada }) => {
      await ada.page.reload()
      await ada.rows.first().waitFor()
      const shift = await ada.log.evaluate(
        log =>
          new Promise<number>(done => {
            const view = log.ownerDocument.defaultView
            let sum = 0
            new view.PerformanceObserver((list: { getEntries(): { value: number; hadRecentInput: boolean }[] }) => {
              for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value
            }).observe({ type: 'layout-shift', buffered: true })
            view.requestIdleCallback(() => view.setTimeout(() => done(sum), 500))
          }),
      )
      assert.ok(shift <= shiftMax, `layout shift ${shift}`)
    },
  ],
  [
    'on a phone a menu is a sheet, and a press beside it closes it and does nothing else',
    async stage => {
      const phone = await Person.open(stage.browser, stage.url, 'Ada', {
        viewport: { width: 360, height: 740 },
        hasTouch: true,
        isMobile: true,
      })
      // A session of its own: a copy of another's would end both.
      const { page } = phone
      await page.goto(`${stage.url}/app`)
      await phone.signIn()
      await page.getByRole('button', { name: 'New conversation' }).click()
      const menu = page.getByRole('menu')
      await menu.waitFor()
      const box = await menu.boundingBox()
      assert.deepEqual([box?.x, box?.width], [0, 360])
      // It slides in.
      const bottom = async () => {
        const now = await menu.boundingBox()
        return Math.round(now!.y + now!.height)
      }
      await becomes(bottom, 740, 'at the bottom')
      const links = page.getByRole('navigation').getByRole('link')
      const first = (await links.first().boundingBox())!
      await page.mouse.click(first.x + first.width / 2, first.y + first.height / 2)
      await menu.waitFor({ state: 'detached' })
      assert.match(page.url(), /\/app$/, 'the row under the finger did not open')
      phone.check()
      await phone.context.close()
    },
  ],
]
