import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { startModelServer } from '#engine/assistant/dev-model.ts'
import { startStack } from './kit/stack.ts'

const hasPython = spawnSync('python3', ['--version'], { stdio: 'ignore' }).status === 0

test('[DOC12] the example session works from another language', { skip: !hasPython && 'no python3' }, async () => {
  const model = await startModelServer(0)
  try {
    const stack = await startStack({ OPENAI_BASE_URL: `http://127.0.0.1:${model.port}/v1` })
    try {
      const script = fileURLToPath(new URL('../docs/example-session.py', import.meta.url))
      const { stdout } = await promisify(execFile)('python3', [script, stack.url])
      assert.match(stdout, /As the page says\.\n$/)
    } finally {
      await stack.stop()
    }
  } finally {
    model.server.closeAllConnections()
    model.server.close()
  }
})
