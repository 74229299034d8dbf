import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { makeFolder } from './folder.ts'

test('[FOLDER1] a folder is made with its parents; one that is there is left as it is', t => {
  const top = mkdtempSync(path.join(tmpdir(), 'parley-folder-'))
  t.after(() => rmSync(top, { recursive: true }))
  makeFolder(path.join(top, 'a/b/c'), 0o700)
  assert.equal(statSync(path.join(top, 'a/b/c')).mode & 0o777, 0o700)
  makeFolder(path.join(top, 'a/b'), 0o777)
  assert.equal(statSync(path.join(top, 'a/b')).mode & 0o777, 0o700)
  writeFileSync(path.join(top, 'file'), '')
  for (const bad of ['file', 'file/x']) assert.throws(() => makeFolder(path.join(top, bad)), { code: 'ENOTDIR' })
})

const odd = ['/dev/null', '/dev/null/x', ...(existsSync('/proc/self') ? ['/proc/x', '/proc/x/y', '/sys/x'] : [])]
for (const folder of odd) {
  test(`[FOLDER2] a start with DATA_DIR=${folder} ends soon, with one sentence that names the setting`, () => {
    const began = performance.now()
    const { status, stderr } = spawnSync(process.execPath, [path.join(import.meta.dirname, '../cli.ts'), 'start'], {
      env: { PATH: process.env['PATH'], DATA_DIR: folder, PORT: '0' },
      encoding: 'utf8',
      killSignal: 'SIGKILL',
      timeout: 15_000,
    })
    assert.equal(status, 1, stderr)
    assert.match(
      stderr,
      /^DATA_DIR \/\S+ cannot be used \([A-Z]+\)\. Set DATA_DIR to a folder this user can write\.\n$/,
    )
    // Alone it takes 0.4 s; the machine may be busy with other things.
    assert.ok(performance.now() - began < 10_000)
  })
}
