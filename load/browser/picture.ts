/** `node load/browser/picture.ts`: docs/app.png and docs/app-dark.png from the real product, a group with the assistant's answer in it. */
import path from 'node:path'
import { chromium } from 'playwright-core'
import { startProduct } from '#load/kit/product.ts'
import { answered } from './answers.ts'
import { Person } from './person.ts'

const docs = path.resolve(import.meta.dirname, '../../docs')
const product = await startProduct()
const browser = await chromium.launch({
  executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
})
try {
  const ada = await Person.open(browser, product.url, 'Ada', { viewport: { width: 1280, height: 800 } })
  const ben = await Person.open(browser, product.url, 'Ben')
  await ada.register()
  await ben.register()
  await ada.find(ben)
  await ada.write('Morning! Did the tickets for the night train arrive?')
  await ben.open('Ada')
  await ben.write('They did. Two berths, lower and middle.')
  await ada.row('They did.').waitFor()
  await ada.group('Oslo trip', ben)
  await ben.open('Oslo trip')
  await ada.write('Here is the place for plans. We leave on Friday at 18:20.')
  await ben.row('Here is the place').waitFor()
  await ben.write('I will bring the coffee. @assistant please make a list: warm socks, headlamp')
  const answers = ada.rows.filter({ hasText: 'Copy' })
  await answers.first().waitFor()
  await ada.write('@assistant show me some code that counts the days')
  await ada.rows.last().locator('.hljs-keyword').first().waitFor()
  await answered(ada)
  await ben.write('Good. See you on the platform.')
  await ada.reaches('Here is the place', 'read')
  await ada.row('See you on the platform.').waitFor()
  for (const [colorScheme, name] of [
    ['light', 'app.png'],
    ['dark', 'app-dark.png'],
  ] as const) {
    await ada.page.emulateMedia({ colorScheme })
    await ada.page.locator(`html[data-theme=${colorScheme}]`).waitFor()
    await ada.page.screenshot({ path: path.join(docs, name) })
    console.log(`written docs/${name}`)
  }
} finally {
  await browser.close()
  await product.stop()
}
