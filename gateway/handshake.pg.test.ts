/**
 * Handshakes and frames over raw sockets: each row gives its code, and after each a healthy neighbour on another socket
 * still works.
 */
import assert from 'node:assert/strict'
import { after, afterEach, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openClient, type TestClient } from '#load/kit/client.ts'
import { handshake, openRaw, type RawSocket, rawFrame } from '#load/kit/raw-socket.ts'
import { type Stack, type StackUser, startStack } from '#load/kit/stack.ts'
import { checkServerFrame } from '#protos/catalogue.ts'

let stack: Stack
let alice: StackUser
let neighbour: TestClient
const open: RawSocket[] = []

before(async () => {
  stack = await startStack({
    RATE_LIMIT_SCALE: '1',
    LOG_LEVEL: 'info',
    CORS_ALLOWED_ORIGINS: 'https://other.example.org',
  })
  alice = await stack.user('alice')
  neighbour = await openClient(stack.url, { token: alice.token })
})
after(async () => {
  await neighbour?.close()
  await stack?.stop()
})
afterEach(async () => {
  for (const raw of open.splice(0)) {
    for (const text of raw.texts) assert.ok('frame' in checkServerFrame(JSON.parse(text)), text)
    raw.destroy()
  }
  assert.equal((await neighbour.ask({ type: 'ping' }))['type'], 'pong', 'the neighbour still works')
})

async function upgrade(options: Parameters<typeof handshake>[1] = {}, extra: Buffer | string = ''): Promise<RawSocket> {
  const raw = openRaw(stack.url)
  open.push(raw)
  raw.write(Buffer.concat([Buffer.from(handshake(stack.url, options)), Buffer.from(extra)]))
  return raw
}
const statusOf = async (options: Parameters<typeof handshake>[1]) => (await (await upgrade(options)).response()).status

/** An authenticated raw socket. */
async function authenticated(): Promise<RawSocket> {
  const raw = await upgrade()
  assert.equal((await raw.response()).status, 101)
  raw.write(rawFrame(JSON.stringify({ type: 'auth', token: alice.token })))
  await until(() => raw.texts.some(t => t.startsWith('{"type":"ready"')))
  return raw
}
async function until(holds: () => boolean, ms = 5000): Promise<void> {
  for (const end = performance.now() + ms; !holds(); await sleep(10)) assert.ok(performance.now() < end, 'in time')
}
const lastError = (raw: RawSocket) =>
  raw.texts.map(t => JSON.parse(t)).findLast((f: { type: string }) => f.type === 'error')

describe('U the handshake', () => {
  test('U1 a foreign Origin is 403 before the upgrade, the own and listed ones are not', async () => {
    const { host, port } = new URL(stack.url)
    const foreign = [
      'http://evil.example.org',
      'null',
      `http://${host}.evil.org`,
      `http://x${host}`,
      `https://${host}`,
      `http://127.0.0.1:${Number(port) + 1}`,
      'https://sub.other.example.org',
    ]
    for (const origin of foreign) assert.equal(await statusOf({ headers: { Origin: origin } }), 403, origin)
    for (const origin of [`http://${host}`, 'https://other.example.org', 'HTTPS://other.example.ORG']) {
      assert.equal(await statusOf({ headers: { Origin: origin } }), 101, origin)
    }
  })

  test('U2 sub-protocols: unknown ones 400, parley.v1 is answered alone, none offered none echoed', async () => {
    for (const offered of ['chat', `bearer.${alice.token}`, 'parley.v2, chat', 'parley.v1, parley.v1']) {
      assert.equal(await statusOf({ headers: { 'Sec-WebSocket-Protocol': offered } }), 400, offered)
    }
    const known = await upgrade({ headers: { 'Sec-WebSocket-Protocol': `parley.v1, bearer.${alice.token}` } })
    const { status, head } = await known.response()
    assert.equal(status, 101)
    assert.match(head, /sec-websocket-protocol: parley\.v1(\r\n|$)/i)
    assert.ok(!head.includes(alice.token))
    await until(() => known.texts.length > 0)
    assert.equal(JSON.parse(known.texts[0]!).type, 'ready')
    const none = await (await upgrade()).response()
    assert.equal(none.status, 101)
    assert.doesNotMatch(none.head, /sec-websocket-protocol/i)
  })

  test('U2 compression is not negotiated', async () => {
    const { head } = await (await upgrade({ headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } })).response()
    assert.doesNotMatch(head, /extensions/i)
  })

  test('U3 wrong versions, keys, methods, bodies and paths are refused with a status', async () => {
    const rows: [Parameters<typeof handshake>[1], number[]][] = [
      [{ headers: { 'Sec-WebSocket-Version': '12' } }, [400, 426]],
      [{ headers: { 'Sec-WebSocket-Key': undefined } }, [400]],
      [{ headers: { 'Sec-WebSocket-Key': 'short' } }, [400]],
      [{ method: 'POST' }, [400, 405]],
      [{ version: '1.0' }, [400, 426]],
      [{ headers: { 'Content-Length': '5' } }, [400]],
      [{ path: '/nowhere' }, [404]],
      [{ path: '/api/ws' }, [101]],
      [{ headers: { 'X-Long': 'x'.repeat(17_000) } }, [431]],
      [{ headers: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`X-${i}`, 'x'])) }, [431]],
    ]
    for (const [options, expected] of rows) {
      const status = await statusOf(options)
      assert.ok(expected.includes(status), `${JSON.stringify(options).slice(0, 80)}: ${status}`)
    }
  })

  test('U5 a bad token in the upgrade is an error frame and 4401', async () => {
    for (const token of ['nonsense', `${alice.token.slice(0, -6)}AAAAAA`, 'x'.repeat(8000)]) {
      const raw = await upgrade({ headers: { 'Sec-WebSocket-Protocol': `parley.v1, bearer.${token}` } })
      assert.equal((await raw.response()).status, 101)
      assert.equal(await raw.closed, 4401)
      assert.equal(lastError(raw).reason, 'TOKEN_INVALID')
    }
  })

  test('U1 a cookie authenticates only with an allowed Origin, a bad one is ignored', async () => {
    const origin = new URL(stack.url).origin
    const good = await upgrade({ headers: { Origin: origin, Cookie: alice.cookie } })
    await until(() => good.texts.length > 0)
    assert.equal(JSON.parse(good.texts[0]!).type, 'ready')
    for (const headers of [{ Cookie: alice.cookie }, { Origin: origin, Cookie: `parley_refresh=${'A'.repeat(43)}` }]) {
      const raw = await upgrade({ headers })
      await raw.response()
      raw.write(rawFrame(JSON.stringify({ type: 'auth', token: alice.token, requestId: 'by-frame' })))
      await until(() => raw.texts.length > 0)
      assert.equal(JSON.parse(raw.texts[0]!).requestId, 'by-frame')
    }
  })

  test('U3 a handshake that trickles is closed within 12 s', { timeout: 20_000 }, async () => {
    const raw = openRaw(stack.url)
    open.push(raw)
    const text = handshake(stack.url)
    const timer = setInterval(() => raw.write(text[0]!), 1000)
    const start = performance.now()
    await new Promise(resolve => raw.socket.once('close', resolve))
    clearInterval(timer)
    assert.ok(performance.now() - start < 12_000)
  })
})

describe('S authentication over a raw socket', () => {
  test('S1 a silent socket is AUTH_TIMEOUT and 4401 after 5 s', async () => {
    const raw = await upgrade()
    const start = performance.now()
    assert.equal(await raw.closed, 4401)
    assert.ok(Math.abs(performance.now() - start - 5000) < 3000)
    assert.equal(lastError(raw).reason, 'AUTH_TIMEOUT')
  })

  test('S2 another frame, or no JSON, before auth is TOKEN_MISSING', async () => {
    for (const text of ['{"type":"ping"}', 'x', '', '\ufeff{}']) {
      const raw = await upgrade({}, rawFrame(text))
      assert.equal(await raw.closed, 4401)
      assert.equal(lastError(raw).reason, 'TOKEN_MISSING')
    }
  })
})

describe('F frames of an authenticated socket', () => {
  const many = (count: number) =>
    Buffer.concat([
      rawFrame('{', { fin: false }),
      ...Array.from({ length: count - 2 }, () => rawFrame('', { fin: false, opcode: 0 })),
      rawFrame('}', { opcode: 0 }),
    ])
  const close = (code: number, reason: Buffer | string = '') => {
    const head = Buffer.alloc(2)
    head.writeUInt16BE(code)
    return rawFrame(Buffer.concat([head, Buffer.from(reason)]), { opcode: 8 })
  }
  const rows: [string, number, () => Buffer][] = [
    ['an unmasked frame', 1002, () => rawFrame('{}', { mask: false })],
    ['RSV1', 1002, () => rawFrame('{}', { rsv: 0x40 })],
    ['RSV2', 1002, () => rawFrame('{}', { rsv: 0x20 })],
    ['RSV3', 1002, () => rawFrame('{}', { rsv: 0x10 })],
    ['opcode 3', 1002, () => rawFrame('{}', { opcode: 3 })],
    ['opcode 11', 1002, () => rawFrame('', { opcode: 11 })],
    ['a continuation without a start', 1002, () => rawFrame('{}', { opcode: 0 })],
    ['a new text inside a fragmented one', 1002, () => Buffer.concat([rawFrame('{', { fin: false }), rawFrame('}')])],
    ['a fragmented control frame', 1002, () => rawFrame('', { opcode: 9, fin: false })],
    ['a control frame over 125 bytes', 1002, () => rawFrame('x'.repeat(126), { opcode: 9 })],
    ['close code 999', 1002, () => close(999)],
    ['close code 1005', 1002, () => close(1005)],
    ['close code 5000', 1002, () => close(5000)],
    ['a close payload of one byte', 1002, () => rawFrame('x', { opcode: 8 })],
    ['UTF-8 C3 28', 1007, () => rawFrame(Buffer.from([0xc3, 0x28]))],
    ['overlong UTF-8', 1007, () => rawFrame(Buffer.from([0xc0, 0x80]))],
    ['a surrogate in UTF-8', 1007, () => rawFrame(Buffer.from([0xed, 0xa0, 0x80]))],
    ['a cut code point', 1007, () => rawFrame(Buffer.from([0xe2, 0x82]))],
    ['a bad close reason', 1007, () => close(1000, Buffer.from([0xc3, 0x28]))],
    ['65 537 bytes', 1009, () => rawFrame('x'.repeat(65_537))],
    ['an announced GiB', 1009, () => rawFrame('x', { announce: 1n << 30n })],
    ['2^63 announced', 1009, () => rawFrame('x', { announce: 1n << 63n })],
    [
      'fragments that sum above the limit',
      1009,
      () => Buffer.concat([rawFrame('x'.repeat(40_000), { fin: false }), rawFrame('x'.repeat(30_000), { opcode: 0 })]),
    ],
    ['1 001 fragments', 1008, () => many(1001)],
    ['100 000 empty fragments', 1008, () => many(100_000)],
    ['a binary frame', 1003, () => rawFrame('{}', { opcode: 2 })],
  ]
  for (const [name, code, bytes] of rows) {
    test(`F1 ${name} closes ${code}`, async () => {
      const raw = await authenticated()
      raw.write(bytes())
      assert.equal(await raw.closed, code)
    })
  }

  test('F2 65 536 bytes and 1 000 fragments pass the frame layer', async () => {
    const raw = await authenticated()
    raw.write(rawFrame(`"${'x'.repeat(65_534)}"`))
    raw.write(many(1000))
    await until(() => raw.texts.length >= 3)
    assert.equal(lastError(raw).code, 'VALIDATION')
  })

  test('S6 bad envelopes are answered and the fifth closes 4400', async () => {
    const raw = await authenticated()
    for (const text of ['{"type":"ping",}', '[1]', '{"type":"ping","__proto__":1}', '[['.repeat(100)])
      raw.write(rawFrame(text))
    await until(() => raw.texts.length >= 5)
    raw.write(rawFrame('{"type":"ping"}'))
    await until(() => raw.texts.some(t => t.includes('pong')))
    raw.write(rawFrame('NaN'))
    assert.equal(await raw.closed, 4400)
  })

  test('P-07 a refused frame leaves one line that its ids find, and nothing of it', async () => {
    const raw = await authenticated()
    const id = '11111111-1111-7111-8111-111111111111'
    const asked = { requestId: 'find-me', traceId: 'by-this' }
    for (const frame of [
      { type: 'message.send', conversationId: id, clientMessageId: id, content: 'canary', role: 'x', ...asked },
      { type: 'message.send', conversationId: id, clientMessageId: id, content: 'canary', ...asked },
      { type: 'room.join', conversationId: id, ...asked },
    ]) {
      raw.write(rawFrame(JSON.stringify(frame)))
      await until(() => raw.texts.filter(t => t.includes('find-me')).length > 0)
      raw.texts.splice(1)
    }
    const lines = stack.gateway
      .tail()
      .split('\n')
      .filter(line => line.includes('find-me'))
    assert.deepEqual(
      lines.map(line => JSON.parse(line)).map(l => [l.traceId, l.convId, l.userId, l.code]),
      [
        ['by-this', id, alice.id, 'VALIDATION'],
        ['by-this', id, alice.id, 'NOT_FOUND'],
        ['by-this', id, alice.id, 'NOT_FOUND'],
      ],
    )
    assert.ok(!stack.gateway.tail().includes('canary'))
  })

  test('S7 10 000 tiny frames in one packet: 50 are served, the rest RLIMIT, the socket stays', async () => {
    const raw = await authenticated()
    await sleep(1100)
    raw.write(Buffer.concat(Array.from({ length: 10_000 }, () => rawFrame('{"type":"ping"}'))))
    await until(() => raw.texts.length >= 10_001, 10_000)
    assert.ok(raw.texts.filter(t => t.includes('"pong"')).length <= 150)
    await sleep(1100)
    const before = raw.texts.length
    raw.write(rawFrame('{"type":"ping"}'))
    await until(() => raw.texts.length > before)
    assert.ok(raw.texts.at(-1)!.includes('"pong"'))
  })

  test('S8 a flood of pings over five seconds closes 4429', async () => {
    const raw = await authenticated()
    const burst = Buffer.concat(Array.from({ length: 150 }, () => rawFrame('', { opcode: 9 })))
    const timer = setInterval(() => raw.write(burst), 500)
    try {
      assert.equal(await raw.closed, 4429)
    } finally {
      clearInterval(timer)
    }
  })

  test('S5 a second auth is VALIDATION of type and a few unasked pongs are ignored', async () => {
    const raw = await authenticated()
    for (let i = 0; i < 5; i++) raw.write(rawFrame('', { opcode: 10 }))
    raw.write(rawFrame(JSON.stringify({ type: 'auth', token: alice.token })))
    await until(() => raw.texts.length >= 2)
    assert.equal(lastError(raw).field, 'type')
    raw.write(rawFrame('{"type":"ping"}'))
    await until(() => raw.texts.length >= 3)
  })

  test('F3 a reset in the middle of a message frees the socket', async () => {
    const raw = await authenticated()
    raw.write(rawFrame('{"type":', { fin: false }))
    await sleep(50)
    raw.socket.resetAndDestroy()
    await raw.closed
  })

  test('S12 /ws/chat with a bad convId is an error of that field and the socket stays', async () => {
    const raw = await upgrade({ path: '/ws/chat?convId=nope' })
    await raw.response()
    raw.write(rawFrame(JSON.stringify({ type: 'auth', token: alice.token })))
    await until(() => raw.texts.length >= 2)
    assert.equal(lastError(raw).field, 'convId')
    const foreign = await upgrade({ path: '/ws/chat?convId=11111111-1111-7111-8111-111111111111' })
    await foreign.response()
    foreign.write(rawFrame(JSON.stringify({ type: 'auth', token: alice.token })))
    await until(() => foreign.texts.length >= 2)
    assert.equal(lastError(foreign).field, 'convId')
    assert.equal(lastError(foreign).code, 'NOT_FOUND')
  })
})
