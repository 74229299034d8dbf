import assert from 'node:assert/strict'
import { test } from 'node:test'
import { equalTextsWindowMs } from '#protos/limits.ts'
import {
  addRecent,
  equalTexts,
  findInDraft,
  foldRecent,
  lastSeqOf,
  noRecent,
  type Recent,
  textKeyOf,
} from './recent.ts'

const hash = '00'.repeat(32)
const send = (recent: Recent, n: number, text: string, mono: number) =>
  addRecent(recent, {
    senderId: 'mia',
    clientId: `c${n}`,
    seq: n,
    messageId: `m${n}`,
    hash,
    textKey: textKeyOf('mia', text),
    mono,
  })

test('[D1] the latest ids stay and the oldest go, and a smaller share takes effect with the next commit', () => {
  let recent = noRecent
  for (let n = 1; n <= 30; n++) recent = foldRecent(send(recent, n, `t${n}`, n), 20)
  assert.equal(lastSeqOf(recent, 'c10'), undefined)
  assert.equal(lastSeqOf(recent, 'c11'), 11)
  recent = foldRecent(send(recent, 31, 't31', 31), 5)
  assert.equal(lastSeqOf(recent, 'c26'), undefined)
  assert.equal(lastSeqOf(recent, 'c27'), 27)
  assert.equal(recent.base?.ids.size, 5)
})

test('[D1] texts are forgotten with their window, counted within it', () => {
  let recent = noRecent
  const key = textKeyOf('mia', 'same')
  for (let n = 1; n <= 3; n++) recent = foldRecent(send(recent, n, 'same', n), 1000)
  for (let n = 4; n <= 50; n++) recent = foldRecent(send(recent, n, `t${n}`, n), 1000)
  assert.deepEqual(equalTexts(recent, key, 50), [1, 2, 3])
  recent = foldRecent(send(recent, 51, 'later', equalTextsWindowMs + 45), 1000)
  assert.deepEqual(equalTexts(recent, key, equalTextsWindowMs + 45), [])
  assert.equal(recent.base?.texts.size, 6, 'those of the last window, and the new one')
})

test('[D2] a draft knows its own sends whole, the base their last number alone', () => {
  const draft = send(noRecent, 7, 'a', 1)
  assert.equal(findInDraft(draft, 'mia', 'c7')?.messageId, 'm7')
  assert.equal(findInDraft(draft, 'tom', 'c7'), undefined)
  assert.equal(lastSeqOf(draft, 'c7'), undefined)
  const committed = foldRecent(draft, 10)
  assert.equal(findInDraft(committed, 'mia', 'c7'), undefined)
  assert.equal(lastSeqOf(committed, 'c7'), 7)
})
