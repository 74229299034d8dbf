/** Letters: a round trip keeps everything, and no input whatever makes the reader crash, over-read or half-act. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseId } from './ids.ts'
import {
  type Label,
  type Letter,
  LetterBatch,
  LetterError,
  label,
  letterBytes,
  letterKinds,
  readBatch,
} from './letter.ts'
import { linkBatchBytesMax, linkBatchLettersMax } from './limits.ts'

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
console.log(`seed ${seed}`)
const runs = (numRuns: number) => ({ seed, numRuns })

const id = fc.oneof(
  fc.constant(''),
  fc
    .uint8Array({ minLength: 16, maxLength: 16 })
    .map(b => Buffer.from(b).toString('hex'))
    .filter(hex => !/^0+$/.test(hex))
    .map(hex => `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`),
)
const byte = fc.integer({ min: 0, max: 255 })
const uint32 = fc.integer({ min: 0, max: 0xffffffff })
const safe = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
const anyLabel: fc.Arbitrary<Label> = fc.record(
  {
    kind: fc.constantFrom(...Object.values(letterKinds)),
    flags: byte,
    shard: byte,
    socket: uint32,
    age: uint32,
    epoch: safe,
    seq: safe,
    conversation: id,
    principal: id,
    attempt: id,
    subject: id,
    trace: fc.string({ unit: 'grapheme', maxLength: 20 }).filter(t => t.isWellFormed() && Buffer.byteLength(t) <= 255),
  },
  { noNullPrototype: true },
)
const anyLetter = fc.record({ label: anyLabel, body: fc.uint8Array({ maxLength: 300 }) })

function write(letters: readonly Letter[]): Buffer {
  const batch = new LetterBatch()
  for (const { label: l, body } of letters) batch.push(l, body)
  return batch.take()
}

const plain = (letters: readonly Letter[]) =>
  letters.map(l => ({ label: l.label, body: Buffer.from(l.body).toString('hex') }))

test('P1 a batch that is written and read is the same letters in the same order', () => {
  fc.assert(
    fc.property(fc.array(anyLetter, { maxLength: 12 }), letters => {
      const bytes = write(letters)
      assert.equal(
        bytes.length,
        letters.reduce((sum, l) => sum + letterBytes(l.label, l.body), 0),
      )
      assert.deepEqual(plain(readBatch(bytes)), plain(letters))
    }),
    runs(300),
  )
})

test('P2 every truncation of a batch is a LetterError or a whole number of letters', () => {
  const letters = [1, 2, 3].map(seq => ({
    label: label(letterKinds.fact, { seq, trace: 'é' }),
    body: Buffer.from('{}'),
  }))
  const bytes = write(letters)
  const each = bytes.length / 3
  for (let cut = 0; cut < bytes.length; cut++) {
    const part = bytes.subarray(0, cut)
    if (cut % each === 0) assert.equal(readBatch(part).length, cut / each)
    else assert.throws(() => readBatch(part), LetterError)
  }
})

test('P3 random bytes and random damage end in letters within the bytes or a LetterError, nothing else', () => {
  const check = (bytes: Uint8Array) => {
    // A window into a larger buffer: reading past its end would find other bytes, not an error.
    const around = Buffer.alloc(bytes.length + 64, 0x41)
    around.set(bytes, 32)
    const inside = around.subarray(32, 32 + bytes.length)
    try {
      for (const { body, label: l } of readBatch(inside)) {
        assert.ok(body.byteOffset >= inside.byteOffset)
        assert.ok(body.byteOffset + body.length <= inside.byteOffset + inside.length)
        for (const each of [l.conversation, l.principal, l.attempt, l.subject]) {
          assert.ok(each === '' || parseId(each) === each)
        }
        assert.ok(Number.isSafeInteger(l.seq) && Number.isSafeInteger(l.epoch))
      }
    } catch (error) {
      if (!(error instanceof LetterError)) throw error
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), check), runs(500))
  fc.assert(
    fc.property(
      fc.array(anyLetter, { minLength: 1, maxLength: 4 }),
      fc.array(fc.tuple(fc.nat(), byte), { minLength: 1, maxLength: 6 }),
      (letters, damage) => {
        const bytes = write(letters)
        for (const [at, value] of damage) bytes[at % bytes.length] = value
        check(bytes)
      },
    ),
    runs(1000),
  )
})

test('P4 a length beyond the frame, a number beyond 2^53, a bad trace and too many letters are refused', () => {
  const one = () => write([{ label: label(letterKinds.command, { trace: 'ab' }), body: Buffer.from('body') }])
  const damaged = (damage: (bytes: Buffer) => void) => {
    const bytes = one()
    damage(bytes)
    return () => readBatch(bytes)
  }
  assert.equal(readBatch(one()).length, 1)
  for (const wrong of [
    damaged(b => b.writeUInt32LE(0xffffffff, 0)),
    damaged(b => b.writeUInt32LE(5, 0)),
    damaged(b => b.writeUInt16LE(91, 4)),
    damaged(b => b.writeUInt16LE(0xffff, 4)),
    damaged(b => b.writeUInt8(255, 6 + 3)),
    damaged(b => b.writeUInt8(0xff, 6 + 92)),
    damaged(b => b.writeUInt32LE(0x00200000, 6 + 16)),
  ]) {
    assert.throws(wrong, LetterError)
  }
  const empty = write([{ label: label(letterKinds.command), body: new Uint8Array(0) }])
  const many = Buffer.concat(Array.from({ length: linkBatchLettersMax + 1 }, () => empty))
  assert.throws(() => readBatch(many), LetterError)
  assert.equal(readBatch(many.subarray(empty.length)).length, linkBatchLettersMax)
})

test('P5 a letter of a later version is read as far as it is known, and an unknown kind is left out', () => {
  const known = write([{ label: label(letterKinds.fact, { seq: 7 }), body: Buffer.from('x') }])
  const grown = Buffer.concat([known.subarray(0, 6 + 92), Buffer.from('later'), known.subarray(6 + 92)])
  grown.writeUInt16LE(92 + 5, 4)
  const unknown = Buffer.from(known)
  unknown[6] = 200
  const letters = readBatch(Buffer.concat([grown, unknown, known]))
  assert.deepEqual(
    letters.map(l => [l.label.seq, Buffer.from(l.body).toString()]),
    [
      [7, 'x'],
      [7, 'x'],
    ],
  )
})

test('P6 a batch stops at its limits, and a letter alone always fits', () => {
  const batch = new LetterBatch()
  const big = Buffer.alloc(linkBatchBytesMax)
  const l = label(letterKinds.answer)
  assert.ok(batch.fits(l, big))
  batch.push(l, big)
  assert.ok(!batch.fits(l, Buffer.alloc(0)))
  const many = new LetterBatch()
  for (let n = 0; n < linkBatchLettersMax; n++) {
    assert.ok(many.fits(l, Buffer.alloc(0)))
    many.push(l, Buffer.alloc(0))
  }
  assert.ok(!many.fits(l, Buffer.alloc(0)))
})

test('P7 a trace longer than its place is cut at a whole character', () => {
  const letter = { label: label(letterKinds.command, { trace: 'é'.repeat(200), seq: 3 }), body: Buffer.from('body') }
  const [read, second] = readBatch(write([letter, letter]))
  assert.equal(read!.label.trace, 'é'.repeat(127))
  assert.equal(Buffer.from(second!.body).toString(), 'body')
})
