/** Shards: the numbers are stored, so these vectors never change. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { assistantId, dmId, nameId, nilId, parseId, readId, timeOfId, writeId } from './ids.ts'
import { shardCount } from './limits.ts'
import { shardOf } from './shard.ts'

const sha1 = (bytes: Uint8Array) => createHash('sha1').update(bytes).digest()

/** The definition, written out a second time. */
function fnv(bytes: Uint8Array): number {
  let hash = 0x811c9dc5n
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x01000193n) & 0xffffffffn
  return Number(hash)
}

test('S1 a shard is fnv1a32 of the id’s 16 bytes, mod 256', () => {
  const vectors: [string, number][] = [
    [nilId, 5],
    ['ffffffff-ffff-ffff-ffff-ffffffffffff', 245],
    [assistantId, 247],
    ['0190a5a0-0000-7000-8000-000000000001', 134],
    ['6ba7b810-9dad-11d1-80b4-00c04fd430c8', 156],
  ]
  for (const [id, expected] of vectors) {
    const bytes = Buffer.from(id.replaceAll('-', ''), 'hex')
    assert.equal(shardOf(id), fnv(bytes) % 256, id)
    assert.equal(shardOf(id), expected, id)
  }
})

test('S2 ids spread over all shards', () => {
  const seen = new Map<number, number>()
  for (let n = 0; n < 256 * 40; n++) {
    const hash = createHash('sha256').update(String(n)).digest()
    const shard = shardOf(readId(hash, 0))
    seen.set(shard, (seen.get(shard) ?? 0) + 1)
  }
  assert.equal(seen.size, shardCount)
  assert.ok(Math.max(...seen.values()) < 40 * 2.2 && Math.min(...seen.values()) > 40 / 2.8)
})

test('S3 ids are read, written and parsed without loss; what is no id is refused', () => {
  const id = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'
  const bytes = new Uint8Array(20).fill(9)
  writeId(bytes, 2, id)
  assert.equal(readId(bytes, 2), id)
  assert.deepEqual([...bytes.subarray(0, 2), ...bytes.subarray(18)], [9, 9, 9, 9])
  writeId(bytes, 2, '')
  assert.equal(readId(bytes, 2), nilId)
  assert.throws(() => writeId(bytes, 0, 'zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz'), RangeError)
  assert.equal(parseId(id.toUpperCase()), id)
  for (const wrong of [
    '',
    `{${id}}`,
    `${id}0`,
    id.slice(1),
    id.replaceAll('-', ''),
    [id],
    5,
    null,
    undefined,
    `${id}\n`,
  ]) {
    assert.equal(parseId(wrong), undefined)
  }
  assert.equal(parseId(nilId), nilId)
})

test('S4 derived ids: version 5 as published, and one direct conversation for two people', () => {
  const dns = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'
  assert.equal(nameId(dns, 'www.example.com', sha1), '2ed6657d-e927-568b-95e1-2665a8aea6a2')
  const a = '0190a5a0-0000-7000-8000-00000000000a'
  const b = '0190a5a0-0000-7000-8000-00000000000b'
  assert.equal(dmId(a, b, sha1), dmId(b, a, sha1))
  assert.notEqual(dmId(a, b, sha1), dmId(a, a, sha1))
  assert.equal(timeOfId('0190a5a0-0000-7000-8000-00000000000a'), 0x0190a5a00000)
  assert.equal(timeOfId(dns), undefined)
})
