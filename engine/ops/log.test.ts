/** What a log line may carry: an allow-list, bounded, one line. */
import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { openLog } from './log.ts'

function lines(level = 'info') {
  const out: string[] = []
  const log = openLog(
    level,
    { node: 'n' },
    new Writable({
      write(chunk, _encoding, done) {
        out.push(String(chunk))
        done()
      },
    }),
  )
  return { log, out, read: () => out.map(line => JSON.parse(line) as Record<string, unknown>) }
}

test('[P-05] a line is JSON with time, level, text and the fields that trace a message', () => {
  const { log, read } = lines()
  const fields = { traceId: 't', userId: 'u', convId: 'c', messageId: 'm', requestId: 'r', ms: 3, code: 'X' }
  log.info('hello', fields)
  const [{ time, ...rest }] = read() as [Record<string, unknown>]
  assert.match(String(time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
  assert.deepEqual(rest, { level: 'info', msg: 'hello', node: 'n', ...fields })
})

test('[P-06] what is not on the list is not written, however it is called', () => {
  const { log, out } = lines()
  const secret = 'canary-7f3a'
  const given = {
    password: secret,
    token: secret,
    authorization: secret,
    cookie: secret,
    email: secret,
    content: secret,
    body: secret,
    ip: secret,
    headers: { authorization: secret },
    userId: 'u',
  }
  log.warn('a line', given)
  log.with(given).error('another', given)
  assert.equal(out.length, 2)
  for (const line of out) assert.ok(!line.includes(secret), line)
  for (const line of out) assert.ok(line.includes('"userId":"u"'))
})

test('[P-06] an error leaves name, code, message and stack; what a database adds about values stays away', () => {
  const { log, read, out } = lines()
  const error = Object.assign(new Error('duplicate key'), {
    code: '23505',
    detail: 'Key (email)=(ann@example.org) already exists.',
    parameters: ['ann@example.org'],
  })
  log.error('it broke', { err: error })
  assert.ok(!out[0]!.includes('ann@example.org'))
  assert.deepEqual(Object.keys(read()[0]!['err'] as object).sort(), ['code', 'message', 'name', 'stack', 'type'])
})

test('[P-04] one entry is one line of bounded size, whatever is in it', () => {
  const { log, out } = lines()
  log.info(`x\n${'y'.repeat(100_000)}`, { traceId: `a\nb${'z'.repeat(100_000)}`, err: new Error('e'.repeat(100_000)) })
  assert.equal(out.length, 1)
  assert.equal(out[0]!.indexOf('\n'), out[0]!.length - 1)
  assert.ok(out[0]!.length < 8000, `${out[0]!.length}`)
})

test('[P-04] a line below the level is not written', () => {
  const { log, out } = lines('warn')
  log.info('quiet')
  log.debug('quieter')
  assert.deepEqual(out, [])
})
