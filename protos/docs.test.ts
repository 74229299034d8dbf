import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { catalogue, finishes } from './catalogue.ts'
import { authReasons, closeCodes, errorCodes } from './errors.ts'
import * as limits from './limits.ts'

const page = readFileSync(new URL('../docs/protocol.md', import.meta.url), 'utf8')

/** A numbered section of the page, up to the next heading of the same or a higher level. */
function section(heading: string): string {
  const start = page.indexOf(`\n${heading}`)
  assert.notEqual(start, -1, `no heading ${heading}`)
  const level = /^#+/.exec(heading)![0].length
  const rest = page.slice(start + 1)
  const body = rest.slice(rest.indexOf('\n') + 1)
  const next = body.search(new RegExp(`^#{1,${level}} `, 'm'))
  return next === -1 ? body : body.slice(0, next)
}

/** Rows of the tables in a text: cells by row, heads and rules left out. */
function rows(text: string): string[][] {
  return text
    .split('\n')
    .filter(
      line =>
        line.startsWith('| ') && !line.startsWith('| ---') && !/^\| (type|code|what|request|`finish`) \|/.test(line),
    )
    .map(line => line.slice(2, -2).split(' | '))
}

/** The words of a row's cell that are set as code. */
const codeWords = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(m => m[1]!)

test('[DOC1] the page’s frames up are the catalogue’s, with the same fields', () => {
  const seen = new Set<string>()
  for (const [type, fields] of rows(section('### 2.2'))) {
    const name = codeWords(type!)[0]!
    const shape = (catalogue.client as Record<string, Record<string, { optional?: boolean }>>)[name]
    assert.ok(shape, `${name} is not in the catalogue`)
    seen.add(name)
    // What stands in brackets explains; what stands outside are the fields.
    const named = codeWords(fields!.replace(/\([^)]*\)/g, ''))
    assert.deepEqual(
      named.sort(),
      Object.entries(shape)
        .map(([f, kind]) => (kind.optional ? `${f}?` : f))
        .sort(),
      name,
    )
  }
  assert.deepEqual([...seen].sort(), Object.keys(catalogue.client).sort())
})

test('[DOC2] the page’s frames down are the catalogue’s, each row naming each field and whether it may be absent', () => {
  const seen = new Set<string>()
  const shapes = { ...catalogue.durable, ...catalogue.fleeting } as Record<
    string,
    Record<string, { optional?: boolean }>
  >
  for (const [type, fields] of rows(section('### 2.3'))) {
    const name = codeWords(type!)[0]!
    assert.ok(shapes[name], `${name} is not in the catalogue`)
    seen.add(name)
    const named = new Set(codeWords(fields!))
    for (const [field, kind] of Object.entries(shapes[name])) {
      const written = kind.optional ? `${field}?` : field
      assert.ok(named.has(written), `${name} does not name ${written}`)
    }
  }
  assert.deepEqual([...seen].sort(), Object.keys(shapes).sort())
})

test('[DOC3] the page’s error codes are those of errors.ts, with bits and status', () => {
  const table = rows(section('### 2.5')).filter(cells => cells.length === 4)
  const told = table.map(([code, retryable, hasRetryAfter, http]) => [
    codeWords(code!)[0],
    retryable,
    hasRetryAfter,
    http,
  ])
  const known = Object.entries(errorCodes).map(([code, r]) => [
    code,
    r.retryable ? 'yes' : 'no',
    r.hasRetryAfter ? 'yes' : 'no',
    `${r.http.status} \`${r.http.code}\``,
  ])
  assert.deepEqual(told, known)
})

test('[DOC4] the page’s close codes are those of errors.ts, with what to do next', () => {
  const table = rows(section('### 2.5')).filter(cells => cells.length === 3)
  const told = table.map(([code, , then]) => [code, then])
  assert.deepEqual(
    told,
    Object.entries(closeCodes).map(([code, r]) => [code, r.after]),
  )
})

test('[DOC5] reasons of UNAUTHORIZED and finishes are all told', () => {
  const words = codeWords(section('### 2.1'))
  for (const reason of authReasons) assert.ok(words.includes(reason), reason)
  const told = rows(section('### 2.4')).map(([finish]) => codeWords(finish!)[0])
  assert.deepEqual(new Set(told), new Set(finishes))
})

test('[DOC6] numbers on the page are the limits of the code', () => {
  const text = page.replace(/\s+/g, ' ')
  const n = (value: number) => value.toLocaleString('en-US')
  const kib = (bytes: number) => `${bytes / 1024} KiB`
  const mib = (bytes: number) => `${bytes / 1024 / 1024} MiB`
  const s = (ms: number) => `${ms / 1000} s`
  const l = limits
  const phrases = [
    `| a message's text | ${l.contentCharsMax} characters, ${kib(l.contentBytesMax)} |`,
    `1–${l.contentCharsMax} characters and at most ${kib(l.contentBytesMax)}`,
    `| a frame, a REST body | ${kib(l.frameBytesMax)} |`,
    `| fragments of a frame | ${n(l.frameFragmentsMax)} |`,
    `more than ${n(l.frameFragmentsMax)} fragments`,
    `| depth of a frame's JSON | ${l.jsonDepthMax} |`,
    `\`traceId\` | ${l.traceIdCharsMax} characters`,
    `\`requestId\` (up to ${l.requestIdCharsMax} characters;`,
    `| attachments of a message | ${l.attachmentsMax} |`,
    `1–${l.emojiCharsMax} characters, no white space`,
    `| a title | ${l.titleCharsMax} characters |`,
    `| people watched by \`presence.watch\` | ${l.presenceWatchMax} |`,
    `| conversations that \`ready\` lists in full | ${l.readyConversationsMax} |`,
    `${l.sendsPendingPerConversationMax} for a socket and conversation; ${n(l.sendsPendingPerSocketMax)} and ${mib(l.sendsPendingPerSocketBytesMax)} for a socket`,
    `| ${l.equalTextsMax} in ${s(l.equalTextsWindowMs)}; the next`,
    `| ${l.framesPerSecondMax}/s for a socket; control frames ${l.controlFramesPerSecondMax}/s |`,
    `| time to authenticate | ${s(l.authTimeoutMs)} |`,
    `| sockets | ${l.socketsPerUserMax} for a user;`,
    `| a replay | ${n(l.replayEventsMax)} events, ${mib(l.replayBytesMax)} |`,
    `| an answer of the assistant | ${kib(l.answerBytesMax)}; ${s(l.turnTimeoutMs)}; ${s(l.idleTimeoutMs)} of silence |`,
    `| turns waiting in a conversation | ${l.turnsQueuedMax} |`,
    `| turns running for a user | ${l.turnsRunningPerUserMax} |`,
    `\`GROUP_MEMBERS_MAX\` (${l.groupMembersMaxDefault})`,
    `| conversations of a user | ${n(l.conversationsPerUserMax)} |`,
    `| ${l.historyPageMax} (${l.historyPageDefault} unless asked); ${n(l.eventsPageMax)} (${l.eventsPageDefault} unless asked) |`,
    `a time more than ${l.idempotencyDaysDefault} days back`,
    `\`UNAVAILABLE\` (within ${s(l.letterAgeMsMax)})`,
    `or ${s(l.refusalQuietMs)} passes without a send`,
    `pings every ${s(l.heartbeatMs)}`,
    `; ${s(l.silentMsMax)} without a pong`,
    `Above ${kib(l.outboxPushBytesMax)} unsent`,
    `up to ${kib(l.outboxControlBytesMax)}. Beyond that, or after ${s(l.outboxStallMsMax)} without progress`,
    `can be read for another ${s(l.closeReadableMs)}`,
    `at most ${s(l.drainMsMax)} after \`server.draining\``,
    `the fifth within ${s(l.badFramesWindowMs)} also closes 4400`,
    `rooms of up to ${l.receiptMembersMax} members`,
    `ends by itself after ${s(l.typingMs)}`,
    `0–${l.unreadMax}, where ${l.unreadMax} means`,
  ]
  for (const phrase of phrases) assert.ok(text.includes(phrase), `the page does not say: ${phrase}`)
  assert.equal(l.badFramesMax, 5)
  assert.equal(l.floodSecondsMax, 5)
})

test('[DOC7] every JSON line of the example is a frame or a body of the protocol', () => {
  const example = section('## 6.')
  const types = new Set([...example.matchAll(/"type":"([a-z_.]+)"/g)].map(m => m[1]!))
  const known = new Set<string>([
    ...Object.keys({ ...catalogue.client, ...catalogue.durable, ...catalogue.fleeting }),
    'dm',
    'group',
    'ai',
  ])
  assert.ok(types.size > 10)
  for (const type of types) assert.ok(known.has(type), type)
})
