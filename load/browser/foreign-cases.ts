/** Tools of another server on screen: named with their server, allowed by a person, their results and faults in words. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { mcpFixture, stdioArgs } from '#load/kit/mcp-fixture.ts'
import { startProduct } from '#load/kit/product.ts'
import { scriptedModel } from '#load/kit/scripted-model.ts'
import { answered, calls, waiting } from './answers.ts'
import { becomes } from './person.ts'
import { type Case, left, newcomer } from './stage.ts'

export const foreignCases: Case[] = [
  [
    'a tool of another server says whose it is, waits for its person, and tells its result and its faults in words',
    async stage => {
      const folder = mkdtempSync(path.join(tmpdir(), 'parley-foreign-'))
      const notes = mcpFixture(path.join(folder, 'notes'))
      const model = await scriptedModel()
      const tools = { flood: 'auto', refuse: 'auto' }
      const setting = { notes: { command: process.execPath, args: stdioArgs(notes), tools } }
      const product = await startProduct({ OPENAI_BASE_URL: model.url, MCP_SERVERS: JSON.stringify(setting) })
      try {
        const zoe = await newcomer({ ...stage, url: product.url }, 'Zoe')
        await zoe.ask()
        await becomes(
          async () => {
            model.script([])
            await zoe.write('what is there?')
            await answered(zoe)
            return model.asked.some(one => one.tools?.some(tool => tool.function.name === 'notes__write'))
          },
          true,
          'the server is known',
        )
        model.script([
          [
            { name: 'notes__write', args: { text: 'one' } },
            { name: 'notes__refuse', args: {} },
            { name: 'notes__flood', args: { text: '1' } },
          ],
        ])
        await zoe.write('write one')
        await waiting(zoe).getByText('The assistant wants to use “write” from notes.').waitFor()
        await waiting(zoe).getByRole('button', { name: 'Allow', exact: true }).click()
        await answered(zoe)
        assert.deepEqual(await calls(zoe), ['notes__write done', 'notes__refuse failed', 'notes__flood done'])
        const [write, refuse, flood] = await zoe.rows.last().locator('[data-tool]').all()
        await write!.getByRole('button', { name: 'Used “write” from notes' }).click()
        assert.equal(await write!.getByRole('region', { name: 'Result' }).innerText(), 'written: one')
        await refuse!.getByRole('button', { name: '“refuse” from notes didn’t work' }).click()
        await flood!.getByRole('button').first().click()
        await flood!.getByText('The rest was too long and is not here.').waitFor()
        const said = await zoe.rows.last().innerText()
        assert.doesNotMatch(said, /untrusted|OperationFailed|notes__/)
        await stage.picture(zoe, 'foreign-tools')
        await left(stage, zoe)
      } finally {
        await product.stop()
        await model.close()
        rmSync(folder, { recursive: true })
      }
    },
  ],
]
