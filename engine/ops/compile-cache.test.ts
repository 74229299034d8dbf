/** What a killed process leaves to the next one. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

test('[SUP5] what was compiled outlives a process that is killed', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-compiled-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const file = JSON.stringify(path.join(import.meta.dirname, 'compile-cache.ts'))
  const code = `const { keepCompiled } = await import(${file}); keepCompiled(20); setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
    env: { ...process.env, NODE_COMPILE_CACHE: folder },
    stdio: 'ignore',
  })
  const written = () => readdirSync(folder, { recursive: true, withFileTypes: true }).filter(f => f.isFile()).length
  for (const until = performance.now() + 10_000; written() === 0 && performance.now() < until; ) await sleep(20)
  child.kill('SIGKILL')
  await once(child, 'exit')
  assert.ok(written() > 0)
})
