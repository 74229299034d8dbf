import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { settings } from './ops/config.ts'

const script = path.join(import.meta.dirname, 'cli.ts')

/** Runs the command in an empty folder; ports are free ones unless given. */
async function parley(t: TestContext, args: string[], env: Record<string, string> = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-cli-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const child = spawn(process.execPath, [script, ...args], {
    cwd: folder,
    env: { PATH: process.env['PATH'], PORT: '0', METRICS_PORT: '0', ENGINE_METRICS_PORT: '0', MODEL_PORT: '0', ...env },
  })
  t.after(() => child.kill('SIGKILL'))
  let out = ''
  let err = ''
  child.stdout.on('data', chunk => (out += chunk))
  child.stderr.on('data', chunk => (err += chunk))
  const code = await new Promise<number | null>(resolve => child.once('exit', resolve))
  return { code, out, err: err.trim() }
}

test('[CLI1] --help names every command and every setting and ends well', async t => {
  const { code, out } = await parley(t, ['--help'])
  assert.equal(code, 0)
  for (const word of ['start', 'cluster', 'serve', 'migrate', 'token', 'seed', 'model', 'config check'])
    assert.match(out, new RegExp(`parley ${word}`))
  for (const name of Object.keys(settings)) assert.ok(out.includes(`  ${name} `), name)
})

test('[CLI2] config check says whether the settings can be used', async t => {
  assert.equal((await parley(t, ['config', 'check'])).code, 0)
  const { code, err } = await parley(t, ['config', 'check'], { PORT: 'x', BCRYPT_COST: '99' })
  assert.equal(code, 1)
  assert.match(err, /^PORT: "x" cannot be used\..*\nBCRYPT_COST: "99" cannot be used\./)
})

const refused: [string, string[], Record<string, string>, RegExp][] = [
  ['an unknown command', ['dance'], {}, /^parley does not know the command "dance"\. See parley --help\.$/],
  [
    'a cluster without Redis',
    ['cluster'],
    { PATH: '/nowhere' },
    /^A cluster needs redis-server in PATH: install Redis, or set REDIS_URL to one that runs\.$/,
  ],
  ['serve without a database', ['serve'], {}, /^parley serve needs DATABASE_URL\./],
  ['an unknown role', ['serve', '--role', 'x'], { DATABASE_URL: 'postgresql://x/y' }, /^--role x is not one of/],
  ['migrate without a word', ['migrate'], {}, /^parley migrate needs one word: up, down or status\.$/],
  ['a wrong setting', ['start'], { LOG_LEVEL: 'loud' }, /^LOG_LEVEL: "loud" cannot be used\./],
  [
    'a database that is down',
    ['start'],
    { DATABASE_URL: 'postgresql://app:secret@127.0.0.1:9/parley' },
    /^DATABASE_URL: the database at 127\.0\.0\.1:9\/parley cannot be used: connect ECONNREFUSED/,
  ],
]
for (const [what, args, env, said] of refused) {
  test(`[CLI3] ${what} is refused in one sentence with code 1`, async t => {
    const { code, err } = await parley(t, args, env)
    assert.equal(code, 1)
    assert.match(err, said)
    assert.equal(err.split('\n').length, 1)
    assert.ok(!err.includes('secret'))
  })
}

for (const setting of ['PORT', 'METRICS_PORT', 'ENGINE_METRICS_PORT', 'MODEL_PORT']) {
  test(`[CLI4] a taken ${setting} is refused in a sentence that names it`, async t => {
    const server = createServer()
    await new Promise<void>(resolve => server.listen(0, '0.0.0.0', resolve))
    t.after(() => server.close())
    const { port } = server.address() as { port: number }
    const { code, err } = await parley(t, ['start'], { [setting]: String(port) })
    assert.equal(code, 1)
    assert.match(err, new RegExp(`^${setting} ${port} is in use by another program\\..*$`))
  })
}

test('[CLI5] a data folder that cannot be one is refused in a sentence that names DATA_DIR', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-cli-'))
  t.after(() => rmSync(folder, { recursive: true }))
  writeFileSync(path.join(folder, 'file'), '')
  const { code, err } = await parley(t, ['start'], { DATA_DIR: path.join(folder, 'file') })
  assert.equal(code, 1)
  assert.match(err, /^DATA_DIR .*file cannot be used \((EEXIST|ENOTDIR)\)\. Set DATA_DIR to a folder/)
})

test('[CLI6] settings are read from .env, and the environment goes before it', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-cli-'))
  t.after(() => rmSync(folder, { recursive: true }))
  writeFileSync(path.join(folder, '.env'), 'BCRYPT_COST=99\n')
  const check = (env: Record<string, string>) =>
    new Promise<number | null>(resolve => {
      const child = spawn(process.execPath, [script, 'config', 'check'], {
        cwd: folder,
        env: { ...env },
        stdio: 'ignore',
      })
      child.once('exit', resolve)
    })
  assert.equal(await check({}), 1)
  assert.equal(await check({ BCRYPT_COST: '6' }), 0)
})

test('[CLI7] a taken port behind ENGINE_PORT, or no room for one, is refused in a sentence that names it', async t => {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const { port } = server.address() as { port: number }
  const threads = { ENGINE_THREADS: '3' }
  const taken = await parley(t, ['start'], { ...threads, ENGINE_PORT: String(port - 1) })
  assert.equal(taken.code, 1)
  assert.match(taken.err, new RegExp(`^ENGINE_PORT (${port}|${port - 1}) is in use by another program\\..*$`))
  const none = await parley(t, ['start'], { ...threads, ENGINE_PORT: '65534' })
  assert.equal(none.code, 1)
  assert.match(none.err, /^ENGINE_PORT 65534 leaves no room for 3 ports\. Set ENGINE_PORT to a lower port\.$/)
})

test('[CLI8] a .env that cannot be read is said in one sentence', async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-cli-'))
  t.after(() => rmSync(folder, { recursive: true }))
  mkdirSync(path.join(folder, '.env'))
  const child = spawn(process.execPath, [script, 'config', 'check'], { cwd: folder, env: {} })
  let err = ''
  child.stderr.on('data', chunk => (err += chunk))
  assert.equal(await new Promise(resolve => child.once('close', resolve)), 1)
  assert.match(err, /^\.env is there and cannot be read \([A-Z_]+\)\.\n$/)
})

for (const [setting, other] of [
  ['HOST', 'PORT'],
  ['METRICS_HOST', 'METRICS_PORT'],
  ['ENGINE_HOST', 'ENGINE_PORT'],
] as const) {
  test(`[CLI9] a ${setting} that is not this machine's is refused in a sentence that names it, whatever the port`, async t => {
    for (const port of ['0', '23457']) {
      // An address for documentation, which nobody has.
      const { code, err } = await parley(t, ['start'], { [setting]: '192.0.2.1', [other]: port })
      assert.equal(code, 1)
      assert.match(err, new RegExp(`^${setting} 192\\.0\\.2\\.1 is no address that this machine can open .*$`))
    }
  })
}
