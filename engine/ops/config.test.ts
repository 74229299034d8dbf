import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { ConfigError, envExample, helpLines, readConfig, type SettingName, settings } from './config.ts'

const root = path.resolve(import.meta.dirname, '../..')

test('[CFG1] .env.example is the table of settings', () => {
  assert.equal(readFileSync(path.join(root, '.env.example'), 'utf8'), envExample())
})

test('[CFG2] an empty environment gives every default', () => {
  const config = readConfig({})
  for (const [name, setting] of Object.entries(settings))
    assert.deepEqual(config[name as SettingName], setting.default, name)
})

test('[CFG3] every default can be written into the environment and read back', () => {
  for (const [name, setting] of Object.entries(settings)) {
    const given = Array.isArray(setting.default) ? setting.default.join(',') : String(setting.default)
    assert.deepEqual(readConfig({ [name]: given })[name as SettingName], setting.default, name)
  }
})

test('[CFG6] good addresses, networks, origins and keys pass', () => {
  const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  readConfig({
    APP_BASE_URL: 'https://chat.example.org',
    CORS_ALLOWED_ORIGINS: 'http://localhost:5173, https://a.org/',
    TRUSTED_PROXIES: '127.0.0.1, 10.0.0.0/8, fd00::/8',
    DATABASE_URL: 'postgresql://app@/parley?host=%2Ftmp',
    REDIS_URL: 'redis://127.0.0.1:6379/0',
    JWT_SIGNING_KEY: pem,
    MODERATOR_EMAILS: 'a@b.org',
  })
})

test('[CFG4] help and .env.example name every setting with a sentence', () => {
  const help = helpLines()
  for (const [name, setting] of Object.entries(settings)) {
    assert.ok(
      help.some(line => line.trim().startsWith(`${name} `)),
      name,
    )
    assert.match(setting.doc, /^[A-Z].*[.]$/, name)
  }
})

const refused: [Record<string, string>, RegExp][] = [
  [{ PORT: 'x' }, /^PORT: "x" cannot be used\. /],
  [{ PORT: '65536' }, /^PORT: /],
  [{ PORT: '-1' }, /^PORT: /],
  [{ RATE_LIMIT_SCALE: '0' }, /^RATE_LIMIT_SCALE: /],
  [{ BCRYPT_COST: '3' }, /^BCRYPT_COST: /],
  [{ BCRYPT_COST: '4.5' }, /^BCRYPT_COST: /],
  [{ DATABASE_POOL_MAX: '2.5' }, /^DATABASE_POOL_MAX: /],
  [{ GUEST_ENABLED: 'maybe' }, /^GUEST_ENABLED: /],
  [{ LOG_LEVEL: 'loud' }, /^LOG_LEVEL: "loud".*One of: trace, debug/],
  [{ DATABASE_POOLER: 'none' }, /^DATABASE_POOLER: /],
  [{ PORT: '3.5' }, /^PORT: /],
  [{ APP_BASE_URL: 'notaurl' }, /^APP_BASE_URL: /],
  [{ OPENAI_BASE_URL: 'foo' }, /^OPENAI_BASE_URL: /],
  [{ CORS_ALLOWED_ORIGINS: '*' }, /^CORS_ALLOWED_ORIGINS: /],
  [{ CORS_ALLOWED_ORIGINS: 'https://a.org/path' }, /^CORS_ALLOWED_ORIGINS: /],
  [{ TRUSTED_PROXIES: '10.0.0.0/8,abc' }, /^TRUSTED_PROXIES: /],
  [{ TRUSTED_PROXIES: '10.0.0.0/33' }, /^TRUSTED_PROXIES: /],
  [{ MODERATOR_EMAILS: 'foo' }, /^MODERATOR_EMAILS: /],
  [{ DATABASE_URL: 'mysql://x' }, /^DATABASE_URL: this value cannot be used/],
  [{ REDIS_URL: 'http://x' }, /^REDIS_URL: this value cannot be used/],
  [{ JWT_SIGNING_KEY: 'abc' }, /^JWT_SIGNING_KEY: this value cannot be used/],
  [{ SYSTEM_PROMPT_FILE: '/nowhere/prompt' }, /^SYSTEM_PROMPT_FILE: cannot read/],
  [{ SYSTEM_PROMPT_FILE: '/dev/null' }, /^SYSTEM_PROMPT_FILE: \/dev\/null is empty$/],
  [{ SYSTEM_PROMPT: 'x'.repeat(20_000) }, /^SYSTEM_PROMPT: this value cannot be used/],
  [{ API_BASE_URL: 'api' }, /^API_BASE_URL: /],
  [{ BETTER_AUTH_SECRET: 'short' }, /^BETTER_AUTH_SECRET: this value cannot be used/],
  [{ DATABASE_URL_FILE: '/nowhere/secret' }, /^DATABASE_URL_FILE: cannot read \/nowhere\/secret \(ENOENT\)$/],
]
for (const [env, said] of refused) {
  test(`[CFG5] ${JSON.stringify(env)} is refused with one line that names the setting`, () => {
    assert.throws(
      () => readConfig(env),
      (error: Error) => {
        assert.ok(error instanceof ConfigError)
        assert.match(error.message, said)
        assert.equal(error.message.split('\n').length, 1)
        return true
      },
    )
  })
}

test('[CFG6] all wrong settings are named at once', () => {
  assert.throws(() => readConfig({ PORT: 'x', BCRYPT_COST: '99' }), /PORT: .*\nBCRYPT_COST: /)
})

test('[CFG7] a secret may come from a file and is never in the message', t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'parley-config-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = path.join(folder, 'key')
  writeFileSync(file, 'sk-hidden\n')
  assert.equal(readConfig({ OPENAI_API_KEY_FILE: file }).OPENAI_API_KEY, 'sk-hidden')
  assert.ok(!helpLines().join('\n').includes('sk-hidden'))
})

test('A-24 a secret text makes the signing key, always the same; a key that is given comes first', () => {
  const secret = 'a secret of more than thirty-two characters'
  const made = readConfig({ BETTER_AUTH_SECRET: secret }).JWT_SIGNING_KEY
  assert.match(made, /^-----BEGIN PRIVATE KEY-----/)
  assert.equal(readConfig({ BETTER_AUTH_SECRET: secret }).JWT_SIGNING_KEY, made)
  assert.notEqual(readConfig({ BETTER_AUTH_SECRET: `${secret}!` }).JWT_SIGNING_KEY, made)
  assert.equal(readConfig({ JWT_SIGNING_KEY: made, BETTER_AUTH_SECRET: `${secret}!` }).JWT_SIGNING_KEY, made)
  const oneLine = made.replaceAll('\n', '\\n')
  assert.equal(readConfig({ JWT_SIGNING_KEY: oneLine }).JWT_SIGNING_KEY, oneLine, 'lines may be written as \\n')
})

test('[CFG8] a flag understands yes and no in the usual words', () => {
  for (const word of ['1', 'true', 'yes']) assert.equal(readConfig({ GUEST_ENABLED: word }).GUEST_ENABLED, true)
  for (const word of ['0', 'false', 'no', '']) assert.equal(readConfig({ GUEST_ENABLED: word }).GUEST_ENABLED, false)
})
