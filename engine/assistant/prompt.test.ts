import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { ConfigError } from '#engine/ops/config.ts'
import { readSystemPrompt } from './prompt.ts'

test('[L-prompt] the operator’s file replaces the built-in prompt; one that cannot be used names the setting', () => {
  const folder = mkdtempSync(join(tmpdir(), 'parley-prompt-'))
  try {
    const file = join(folder, 'prompt.md')
    assert.match(readSystemPrompt(''), /assistant of a Parley/)
    assert.throws(() => readSystemPrompt(file), /^ConfigError: SYSTEM_PROMPT_FILE: cannot read .*ENOENT/)
    for (const text of ['', ' \n', 'x'.repeat(20_000)]) {
      writeFileSync(file, text)
      assert.throws(() => readSystemPrompt(file), ConfigError)
    }
    writeFileSync(file, '  Speak like a sailor.\n')
    assert.equal(readSystemPrompt(file), 'Speak like a sailor.')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
