/** The badge right after reading, on the whole stack: nothing is flushed yet, and a reload must not show it again. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { type Frame, openClient } from '#load/kit/client.ts'
import { type Stack, type StackUser, startStack } from '#load/kit/stack.ts'

let stack: Stack
let mia: StackUser
let ola: StackUser

before(async () => {
  stack = await startStack()
  mia = await stack.user('mia')
  ola = await stack.user('ola')
})
after(() => stack?.stop())

test('[POS4] what was just read or sent is read in `ready` and in every list, before any flush', async () => {
  const room = (await mia.rest('POST', '/conversations', { type: 'group', title: 'trip', usernames: ['ola'] })).body.id
  const [a, b] = await Promise.all([mia, ola].map(user => openClient(stack.url, { token: user.token })))
  const send = (content: string) =>
    a!.ask({ type: 'message.send', conversationId: room, clientMessageId: randomUUID(), content })
  for (const n of [1, 2, 3]) await send(`m${n}`)
  const head = (await send('m4'))['seq'] as number
  const isMine = (f: Frame) => f['type'] === 'receipt.updated' && f['userId'] === ola.id && f['readSeq'] === head
  b!.send({ type: 'receipt.read', conversationId: room, seq: head })
  await b!.next(isMine)
  await Promise.all([a!.close(), b!.close()])

  for (const user of [mia, ola]) {
    const again = await openClient(stack.url, { token: user.token })
    const inReady = again.frames[0]!['conversations'].find((c: Frame) => c['id'] === room)
    assert.deepEqual([inReady.readSeq, inReady.unread], [head, 0], user.username)
    await again.close()
    const one = (await user.rest('GET', `/conversations/${room}`)).body
    const listed = (await user.rest('GET', '/conversations')).body.items[0]
    assert.deepEqual([one.read_seq, one.unread, listed.read_seq, listed.unread], [head, 0, head, 0], user.username)
  }
})
