/**
 * `npm run test:browser`: the web app in Chromium on the real product. Skips, and says why, where there is no Chromium.
 * With PARLEY_URL it uses a product that runs already; with words it plays only the cases whose names hold one of them (most
 * build on those before, the dialogues stand alone). The last line is `N passed, N failed`.
 */
import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { chromium } from 'playwright-core'
import { startProduct } from '#load/kit/product.ts'
import { cases } from './cases.ts'
import type { Stage } from './stage.ts'

const places = [process.env['CHROMIUM'], '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
/** Nothing of the browser's own may reach the network: every request in the log is the app's. */
const flags = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
]
const pictures = path.resolve(import.meta.dirname, '../../test-results')

const executablePath = places.find(place => place && existsSync(place))
if (!executablePath) {
  console.log(`skipped: no Chromium at ${places.filter(Boolean).join(', ')}`)
  console.log('0 passed, 0 failed')
  process.exit(0)
}

const product = process.env['PARLEY_URL'] ? undefined : await startProduct()
const browser = await chromium.launch({ executablePath, args: flags })
const stage = {
  browser,
  url: product?.url ?? process.env['PARLEY_URL']!,
  people: [],
  async endEverything() {
    if (!product) return console.log('     PARLEY_URL is not ours: its processes live on')
    const { engine, gateway, model } = product.node()
    for (const pid of [engine, gateway, model]) if (pid) process.kill(pid, 'SIGKILL')
  },
  async picture(person, name) {
    mkdirSync(pictures, { recursive: true })
    await person.page.screenshot({ path: path.join(pictures, `${name}.png`) })
  },
} as Pick<Stage, 'browser' | 'url' | 'people' | 'endEverything' | 'picture'> as Stage
const words = process.argv.slice(2)
const chosen = cases.filter(([name]) => words.length === 0 || words.some(word => name.includes(word)))
let passed = 0
let failed = 0
try {
  for (const [name, run] of chosen) {
    const began = performance.now()
    try {
      await run(stage)
      for (const person of stage.people) person.check()
      passed++
      console.log(`ok   ${name} (${Math.round(performance.now() - began)} ms)`)
    } catch (error) {
      failed++
      console.log(`FAIL ${name}\n${error instanceof Error ? error.stack : error}`)
      mkdirSync(pictures, { recursive: true })
      for (const [i, person] of stage.people.entries()) {
        const file = path.join(pictures, `browser-${passed + failed}-${person.name}-${i}.png`)
        await person.page.screenshot({ path: file }).catch(() => undefined)
        person.problems.splice(0)
        person.expected = undefined
        await person.context.setOffline(false).catch(() => undefined)
      }
      // Later cases need two people who are signed in.
      if (words.length === 0 && (!stage.ada || !stage.ben)) break
    }
  }
} finally {
  await browser.close()
  await product?.stop()
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
