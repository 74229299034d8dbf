import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemPromptOf } from './prompt.ts'

test('[L-prompt] the operator’s prompt replaces the built-in one', () => {
  assert.match(systemPromptOf(''), /assistant of a Parley/)
  assert.match(systemPromptOf(' \n'), /assistant of a Parley/)
  assert.equal(systemPromptOf('  Speak like a\0 sailor.\n'), 'Speak like a sailor.')
})
