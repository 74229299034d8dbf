/** Which addresses may be reached: the table of those that never are, names that resolve to them, and names bound anew. */
import assert from 'node:assert/strict'
import type { LookupAddress } from 'node:dns'
import { test } from 'node:test'
import { AddressRefused, checkHost, guardedLookup, onlyLoopback, publicOr } from './public-address.ts'

const may = publicOr([])

const refused = [
  ...['0.0.0.0', '10.0.0.1', '100.64.0.1', '100.127.255.255', '127.0.0.1', '127.255.255.254', '169.254.169.254'],
  ...[
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.1',
    '192.0.2.1',
    '192.88.99.1',
    '192.168.1.1',
    '198.18.0.1',
    '198.19.255.255',
  ],
  ...['198.51.100.1', '203.0.113.1', '224.0.0.1', '240.0.0.1', '255.255.255.255'],
  ...['::', '::1', '::ffff:127.0.0.1', '::ffff:169.254.169.254', '::ffff:7f00:1', '::127.0.0.1', '64:ff9b::a9fe:a9fe'],
  ...['64:ff9b:1::1', '100::1', '2001::1', '2001:db8::1', '2002:7f00:1::', '3fff::1', 'fc00::1', 'fd00:ec2::254'],
  ...['fe80::1', 'fe80::1%eth0', 'fec0::1', 'ff02::1', '5f00::1', '', 'localhost', '1.2.3', '0x7f.1', '2130706433'],
]
const reached = [
  '1.1.1.1',
  '8.8.8.8',
  '100.128.0.1',
  '172.32.0.1',
  '192.167.255.255',
  '2606:4700::1111',
  '2a00:1450::1',
]

test('S14 private, local, shared, metadata, mapped and translated addresses are never reached', () => {
  for (const address of refused) assert.equal(may(address), false, address)
  for (const address of reached) assert.equal(may(address), true, address)
})

test('S14 the operator’s networks are reached beside the public ones, and nothing next to them', () => {
  const own = publicOr(['10.1.0.0/16', '127.0.0.1', 'fd00:1::/32'])
  for (const address of ['10.1.2.3', '127.0.0.1', 'fd00:1::5', '1.1.1.1']) assert.equal(own(address), true, address)
  for (const address of ['10.2.0.1', '127.0.0.2', 'fd00:2::5', '169.254.169.254', '::1'])
    assert.equal(own(address), false, address)
  assert.throws(() => publicOr(['10.1.0.0/99']))
  for (const address of ['127.0.0.1', '127.9.9.9', '::1']) assert.equal(onlyLoopback(address), true, address)
  for (const address of ['1.1.1.1', '10.0.0.1', '']) assert.equal(onlyLoopback(address), false, address)
})

test('S14 an address in the place of a name is refused in every notation', () => {
  const hosts = [
    '127.0.0.1',
    '2130706433',
    '0x7f000001',
    '0177.0.0.1',
    '127.1',
    '[::1]',
    '[::ffff:10.0.0.1]',
    '169.254.169.254',
  ]
  for (const host of hosts) assert.throws(() => checkHost(new URL(`https://${host}/mcp`), may), AddressRefused, host)
  checkHost(new URL('https://1.1.1.1/'), may)
  // A name is judged where it is resolved.
  checkHost(new URL('https://localhost/'), may)
})

/** Answers of a resolver, one after the other. */
function lookUp(answers: string[][]) {
  const asked: string[] = []
  const lookup = guardedLookup(may, (host, options, done) => {
    asked.push(host)
    assert.equal(options.all, true)
    done(
      null,
      answers.shift()!.map((address): LookupAddress => ({ address, family: address.includes(':') ? 6 : 4 })),
    )
  })
  const ask = (all: boolean) =>
    new Promise<unknown>((resolve, reject) =>
      lookup('mcp.example', { all }, (error, address) => (error ? reject(error) : resolve(address))),
    )
  return { ask, asked }
}

test('S14 a name is refused when any of its addresses is, each time that it is asked for', async () => {
  const { ask, asked } = lookUp([
    ['1.1.1.1'],
    ['1.1.1.1', '2606:4700::1111'],
    ['10.0.0.1'],
    ['1.1.1.1', '127.0.0.1'],
    ['::ffff:169.254.169.254'],
    [],
  ])
  assert.equal(await ask(false), '1.1.1.1')
  assert.deepEqual(await ask(true), [
    { address: '1.1.1.1', family: 4 },
    { address: '2606:4700::1111', family: 6 },
  ])
  for (let i = 0; i < 4; i++) await assert.rejects(ask(true), AddressRefused)
  assert.equal(asked.length, 6)
})
