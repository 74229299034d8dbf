import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { type TestHttp, testHttp } from '#load/kit/http.ts'
import { type TestDatabase, testDatabase } from '#load/kit/postgres.ts'

const run = promisify(execFile)
const script = new URL('./cli.ts', import.meta.url).pathname
const home = mkdtempSync(join(tmpdir(), 'parley-cli-'))
let database: TestDatabase
let http: TestHttp
before(async () => {
  database = await testDatabase()
  http = await testHttp({ database })
})
after(async () => {
  await http.close()
  await database.drop()
  rmSync(home, { recursive: true, force: true })
})

async function parley(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const env = { PATH: process.env['PATH'], DATABASE_URL: database.url }
  return run(process.execPath, [script, ...args], { env }).then(
    ({ stdout, stderr }) => ({ code: 0, out: stdout, err: stderr }),
    e => ({ code: e.code as number, out: e.stdout as string, err: e.stderr as string }),
  )
}

test('4 parley token prints an access token and the user’s id, and makes the user if told', async () => {
  const missing = await parley('token', 'bot@example.org')
  assert.equal(missing.code, 1)
  assert.equal(missing.err, 'bot@example.org: no such account. --create makes one.\n')
  const made = await parley('token', 'bot@example.org', '--create', '--ttl', '15m')
  assert.equal(made.code, 0, made.err)
  const [token, id] = made.out.split('\n')
  const me = await http.call('GET', '/me', { token })
  assert.equal(me.body.id, id)
  assert.equal(me.body.username, 'bot')
  const again = await parley('token', 'BOT@example.org')
  assert.equal(again.out.split('\n')[1], id)
})

test('4 parley token refuses a life above a day and says so in one sentence', async () => {
  for (const args of [['--ttl', '25h'], ['--ttl', 'soon'], ['--wrong']]) {
    const { code, err } = await parley('token', 'bot@example.org', ...args)
    assert.equal(code, 1)
    assert.equal(err.trim().split('\n').length, 1, err)
  }
})

test('4 parley seed makes users and writes a token a line; again it finds the same users', async () => {
  const file = join(home, 'tokens')
  const tokens = async () => {
    const { code, err } = await parley('seed', '--users', '1200', '--tokens', file)
    assert.equal(code, 0, err)
    return readFileSync(file, 'utf8').trim().split('\n')
  }
  const first = await tokens()
  assert.equal(first.length, 1200)
  assert.equal((await http.call('GET', '/me', { token: first[1199] })).body.username, 'seed_1200')
  await tokens()
  const { rows } = await http.owner.pool.query(`select count(*)::int as n from users where username like 'seed\\_%'`)
  assert.equal(rows[0].n, 1200)
})

test('4 parley seed with a file that cannot be written ends with 2 and one sentence, nothing made', async () => {
  const count = async () => (await http.owner.pool.query('select count(*)::int as n from users')).rows[0].n
  const before = await count()
  for (const file of [home, join(home, 'missing/tokens'), '/proc/x/y']) {
    const { code, err } = await parley('seed', '--users', '3000', '--tokens', file)
    assert.equal(code, 2)
    assert.match(err, /^--tokens \S+ cannot be written \([A-Z]+\)\.\n$/)
  }
  assert.equal(await count(), before)
  // Through the command of people: not even a database is started.
  const env = { PATH: process.env['PATH'], DATA_DIR: join(home, 'data') }
  const whole = run(
    process.execPath,
    [join(import.meta.dirname, '../../engine/cli.ts'), 'seed', '--users', '1', '--tokens', home],
    { env },
  )
  await assert.rejects(whole, { code: 2, stderr: `--tokens ${home} cannot be written (EISDIR).\n` })
  assert.equal(existsSync(join(home, 'data')), false)
})
