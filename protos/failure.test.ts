/** Error frames that a link's ends make themselves are frames of the catalogue. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkServerFrame } from './catalogue.ts'
import { failureFrame } from './failure.ts'

const conversation = '0190a5a0-0000-7000-8000-000000000001'
const decode = (bytes: Uint8Array) => JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>
const failure = { code: 'OVERLOADED', message: 'wait', retryAfterMs: 5 } as const

test('E1 a failure frame names its request and trace, and passes the catalogue, whatever the command was', () => {
  const command = Buffer.from('{"type":"message.send","requestId":"é","traceId":"t"}')
  const frame = decode(failureFrame(command, conversation, 0, failure, 'ours'))
  assert.deepEqual(frame, {
    type: 'error',
    ts: '1970-01-01T00:00:00.000Z',
    requestId: 'é',
    traceId: 't',
    conversationId: conversation,
    code: 'OVERLOADED',
    message: 'wait',
    retryAfterMs: 5,
    retryable: true,
  })
  for (const bytes of ['', '{', 'null', '[]', '"x"', '{"requestId":5}', '\xff\xfe']) {
    for (const id of [conversation, '']) {
      const bare = decode(failureFrame(Buffer.from(bytes, 'latin1'), id, 0, failure, 'ours'))
      assert.ok('frame' in checkServerFrame(bare), JSON.stringify(bare))
      assert.equal(bare['requestId'], undefined)
      assert.equal(bare['traceId'], 'ours')
    }
  }
})
