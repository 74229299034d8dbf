import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withoutAddress } from './dialogue.ts'
import { replyTo, streamWords, wordDeltas } from './replies.ts'

const user = (content: string) => ({ role: 'user', content })

test('[M1] #stream gives exactly n words, one delta each, every third with multi-byte characters', () => {
  const { deltas, delayMs } = replyTo([user('#stream words=31 delay_ms=7')])
  assert.equal(deltas.length, 31)
  assert.equal(deltas.join('').split(' ').length, 31)
  assert.equal(delayMs(1), 7)
  for (const [i, d] of deltas.entries()) assert.equal(Buffer.byteLength(d) > d.length, i % 3 === 2, `delta ${i}: ${d}`)
})

test('[M1] #stream is obeyed behind a mention and a speaker, and only at the beginning', () => {
  assert.equal(replyTo([user('@assistant #stream words=4 delay_ms=0')]).deltas.length, 4)
  assert.equal(replyTo([user('Ana: @assistant #stream words=4 delay_ms=0')]).deltas.length, 4)
  assert.notEqual(replyTo([user('please #stream words=4 delay_ms=0')]).deltas.join(''), streamWords(4).join(''))
  assert.equal(replyTo([user('#stream words=4 delay_ms=0\nand a second line')]).deltas.length, 4)
})

test('[M1] no words are one empty delta', () => {
  assert.deepEqual(streamWords(0), [''])
})

test('[M2] deltas of an answer add up to it, whatever its white space', () => {
  for (const text of ['one two', '  a\n\nb  ', 'x', '', '\n- a\n- b\n']) assert.equal(wordDeltas(text).join(''), text)
})

test('[M3] the same messages give the same answer, which names the speaker and the topic', () => {
  const messages = [
    user('Ben: I repaired the bicycle'),
    { role: 'assistant', content: 'ok' },
    user('Ana: And the brakes?'),
  ]
  const answer = replyTo(messages).deltas.join('')
  assert.equal(answer, replyTo(messages).deltas.join(''))
  assert.match(answer, /Ana/)
  assert.match(answer, /brakes/)
  assert.match(answer, /Ben wrote “I repaired the bicycle”/)
  assert.match(answer, /2 messages/)
})

test('[M3] asked for a summary it says what was said', () => {
  const answer = replyTo([user('Milk is out'), user('Bread too'), user('What did I say?')]).deltas.join('')
  assert.match(answer, /2 messages/)
  assert.match(answer, /“Milk is out”/)
  assert.match(answer, /“Bread too”/)
})

test('[M3] asked for a list it lists what was named', () => {
  const said = (text: string) =>
    replyTo([user(text)])
      .deltas.join('')
      .split('\n')
      .slice(2)
  const items = ['1. warm socks', '2. headlamp', '3. tea']
  assert.deepEqual(said('Ben: Coffee is mine. @assistant make a list: warm socks, headlamp and tea.'), items)
  assert.deepEqual(said('a list of warm socks; headlamp, tea'), items)
  assert.equal(said('a list').length, 3)
})

test('[M4] every answer is non-empty text that fits a message of any conversation', () => {
  for (const text of [
    '',
    'hi',
    'help',
    'thanks',
    'a table please',
    'list apples and oranges',
    'code',
    '🙂',
    'x'.repeat(9000),
  ]) {
    const answer = replyTo([user(text)]).deltas.join('')
    assert.ok(answer.trim() !== '' && answer.length < 4096, text.slice(0, 20))
    assert.ok(answer.isWellFormed())
  }
})

test('[M5] an address is a short name and a colon, a mention, or both', () => {
  assert.equal(withoutAddress('Ana Lee: hello: you'), 'hello: you')
  assert.equal(withoutAddress('@Assistant, hello'), 'hello')
  assert.equal(withoutAddress('@assistants are fun'), '@assistants are fun')
})

test('[M15] asked for a title it gives the first words of the question', () => {
  const ask = (question: string) =>
    replyTo([
      { role: 'system', content: 'Give this conversation a title of at most six words.' },
      { role: 'user', content: `Question: ${question}\n\nAnswer: something` },
    ]).deltas.join('')
  assert.equal(ask('@assistant how do I water the plants in winter?'), 'How do I water the plants')
  assert.equal(ask('?!'), 'A conversation')
})
