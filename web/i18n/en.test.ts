import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { en } from './en.ts'
import { reasonOf, t } from './t.ts'

const web = path.resolve(import.meta.dirname, '..')
const sources = readdirSync(web, { recursive: true, encoding: 'utf8' })
  .filter(file => /\.(svelte|ts)$/.test(file) && !/^dist|^node_modules|i18n\/en|\.test\.ts$/.test(file))
  .map(file => readFileSync(path.join(web, file), 'utf8'))
  .join('\n')
/** Families whose last part is made from data. */
const made = ['theme.', 'speech.', 'role.', 'reason.', 'tool.', 'approval.', 'policy.']

test('L1 every sentence is used somewhere', () => {
  const unused = Object.keys(en).filter(key => !made.some(m => key.startsWith(m)) && !sources.includes(`'${key}'`))
  assert.deepEqual(unused, [])
})

test('L2 values take their places, numbers by the language, and plurals choose their form', () => {
  assert.equal(t('composer.rate', { n: 3 }), 'That was fast. You can send again in 3 s.')
  assert.equal(t('answer.tokens', { n: 1 }), '1 token')
  assert.equal(t('answer.tokens', { n: 1234 }), '1,234 tokens')
  assert.equal(t('find.none', { q: '{n}' }), 'Nothing found for “{n}”. Try fewer words.')
})

test('L3 a code without words of its own still says something', () => {
  assert.equal(reasonOf('NOT_FOUND'), en['reason.NOT_FOUND'])
  assert.equal(reasonOf('SOMETHING_NEW'), en['reason.other'])
})
