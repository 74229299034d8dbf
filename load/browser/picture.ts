/** `node load/browser/picture.ts`: docs/app.png from the real product, a group with the assistant's answer in it. */
import path from 'node:path'
import { chromium } from 'playwright-core'
import { startProduct } from '#load/kit/product.ts'
import { Person } from './person.ts'

const file = path.resolve(import.meta.dirname, '../../docs/app.png')
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
  await ada.write('@assistant what did we say so far?')
  await ada.log.getByText('messages from people before your question').waitFor()
  await ada.page.waitForTimeout(800)
  await ada.page.screenshot({ path: file })
  console.log(`written ${file}`)
} finally {
  await browser.close()
  await product.stop()
}
