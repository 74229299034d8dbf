/**
 * How an answer looks while it comes and after it ended: nothing jumps, no mark of markup shows, code can be read and copied,
 * a reload or a lost network in its middle loses nothing, and what broke off can be gone on from.
 */
import assert from 'node:assert/strict'
import { answered, asked } from './answers.ts'
import { becomes, type Person } from './person.ts'
import type { Case } from './stage.ts'

const offlineNoise = /ERR_INTERNET_DISCONNECTED|WebSocket|ERR_NETWORK/
const endMs = 30_000

export const answerCases: Case[] = [
  [
    'an empty conversation offers four questions, and one press asks',
    async ({ ada }) => {
      await ada.ask()
      const offers = ada.log.getByRole('button')
      assert.equal(await offers.count(), 4)
      await offers.filter({ hasText: 'What’s on my list?' }).click()
      await answered(ada)
      assert.equal((await ada.texts())[0]?.trim(), 'What’s on my list?')
      assert.equal(await offers.filter({ hasText: 'Explain' }).count(), 0)
      await ada.rows.last().getByRole('button', { name: 'Retry' }).click()
      await becomes(() => ada.rows.filter({ hasText: 'Copy' }).count(), 2, 'the same question is asked once more')
      assert.equal(await ada.row('What’s on my list?').locator('[data-tick]').count(), 2)
    },
  ],
  [
    'while Markdown streams nothing shrinks or moves up, and no mark shows',
    async ({ ada }) => {
      for (const question of ['help', 'show me some code', 'make a table', 'make a list: one, two']) {
        await watchGrowth(ada)
        await ada.write(question)
        await answered(ada)
        const { frames, faults } = await growth(ada)
        assert.deepEqual(faults, [], question)
        assert.ok(frames > 0, `${question}: ${frames} frames of growth`)
      }
    },
  ],
  [
    'code has its colours, its language and a button that copies it as it is',
    async ({ ada }) => {
      await ada.context.grantPermissions(['clipboard-read', 'clipboard-write'])
      await asked(ada, 'show me some code')
      const box = ada.rows.last().locator('figure')
      await box.locator('.hljs-keyword').first().waitFor()
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a program
      const code = 'export function greet(name: string): string {\n  return `Hello, ${name}!`\n}\n'
      assert.equal(await box.locator('pre').evaluate(pre => pre.textContent), code)
      await box.getByText('ts', { exact: true }).waitFor()
      await box.getByRole('button', { name: 'Copy' }).click()
      await box.getByRole('button', { name: 'Copied' }).waitFor()
      assert.equal(await box.evaluate(figure => figure.ownerDocument.defaultView.navigator.clipboard.readText()), code)
    },
  ],
  [
    'a selection in a growing answer stays',
    async ({ ada }) => {
      await ada.write('#stream words=120 delay_ms=20')
      const text = ada.rows.last().locator('.md')
      await becomes(async () => (await text.innerText()).includes('river7'), true, 'it began')
      await text.evaluate(md => {
        const node = md.querySelector('p')!.firstChild!
        md.ownerDocument.getSelection().setBaseAndExtent(node, 0, node, 13)
      })
      await answered(ada, endMs)
      assert.equal(await text.evaluate(md => md.ownerDocument.getSelection().toString()), 'alpha1 river2')
    },
  ],
  [
    'a reload in mid-answer shows what had come, and then the rest',
    async ({ ada }) => {
      await ada.write('#stream words=150 delay_ms=25')
      const text = ada.rows.last().locator('.md')
      await becomes(async () => (await text.innerText()).includes('stone13'), true, 'it began')
      const before = (await text.innerText()).trim()
      await ada.page.reload()
      await becomes(async () => (await text.innerText()).startsWith(before), true, 'the text so far is there')
      await answered(ada, endMs)
      assert.deepEqual(wordsOf(await text.innerText()), 150)
    },
  ],
  [
    'an answer whose network went in its middle is whole when it is back',
    async ({ ada }) => {
      await ada.write('#stream words=120 delay_ms=20')
      const text = ada.rows.last().locator('.md')
      await becomes(async () => (await text.innerText()).includes('river7'), true, 'it began')
      ada.expected = offlineNoise
      await ada.context.setOffline(true)
      await ada.page.getByText('You’re offline.').first().waitFor()
      await ada.context.setOffline(false)
      await answered(ada, endMs)
      assert.equal(wordsOf(await text.innerText()), 120)
      ada.expected = undefined
    },
  ],
  [
    'an answer that broke off says so once and goes on by a press that quotes its end',
    async ({ ada }) => {
      await ada.write('#fault cut')
      const broken = ada.rows.last()
      await broken.getByText('The answer was interrupted. This is what arrived.').waitFor({ timeout: endMs })
      const words = (await broken.locator('.md').innerText()).trim()
      assert.notEqual(words, '')
      assert.equal(await ada.page.locator('form .hint').count(), 0, 'not told a second time')
      await broken.getByRole('button', { name: 'Continue' }).click()
      await ada.log.getByText(`Continue where this broke off: “${words}”`).waitFor()
      await answered(ada)
    },
  ],
  [
    'an assistant that cannot be reached is told in words, and Retry asks the same again',
    async ({ ada }) => {
      await ada.write('#fault 500')
      await ada.rows.last().getByText('The assistant couldn’t be reached.').waitFor({ timeout: endMs })
      await ada.list.getByText('No answer came').waitFor()
      const count = await ada.row('#fault 500').count()
      await ada.rows.last().getByRole('button', { name: 'Retry' }).click()
      await becomes(() => ada.row('#fault 500').count(), count + 1, 'asked again')
      await ada.rows.last().getByText('The assistant couldn’t be reached.').waitFor({ timeout: endMs })
    },
  ],
]

const wordsOf = (text: string) => text.trim().split(/\s+/).length

interface Growth {
  frames: number
  faults: string[]
}

/** Looks at the next answer in every frame, to its end. */
async function watchGrowth(person: Person): Promise<void> {
  await person.log.evaluate(log => {
    const seen: Growth = { frames: 0, faults: [] }
    const view = log.ownerDocument.defaultView
    view.growth = seen
    const before = new Set(log.querySelectorAll('article'))
    let height = 0
    let tops = new Map<unknown, number>()
    const look = () => {
      const row = [...log.querySelectorAll('article')].at(-1)
      const text = row?.querySelector('.md')
      if (row && !before.has(row) && row.classList.contains('answer') && text) {
        const box = text.getBoundingClientRect()
        if (box.height < height - 0.5) seen.faults.push(`shrank from ${height} to ${box.height}`)
        if (box.height > height) seen.frames++
        height = box.height
        // Where a block stands in its answer never changes, whatever comes after it.
        const now = new Map<unknown, number>()
        for (const block of text.children) now.set(block, block.getBoundingClientRect().top - box.top)
        for (const [block, top] of tops) {
          if (now.has(block) && Math.abs(now.get(block)! - top) > 0.5)
            seen.faults.push(`a block moved: ${(block as typeof text).textContent}`)
          if (!now.has(block)) seen.faults.push(`a block went: ${(block as typeof text).textContent}`)
        }
        tops = now
        const raw = /\*\*|```|\|\s*-|^\s*\|/m.exec(text.textContent)
        if (raw) seen.faults.push(`raw ${raw[0]} in ${text.textContent}`)
        const copy = [...row.querySelectorAll('footer button')].at(0)
        if (copy) return
      }
      view.requestAnimationFrame(look)
    }
    view.requestAnimationFrame(look)
  })
}

const growth = (person: Person): Promise<Growth> => person.log.evaluate(log => log.ownerDocument.defaultView.growth)
