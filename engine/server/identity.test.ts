/** Who may open a link: a private CA's gateways, nobody else; the health check asks for no name. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { ChannelCredentials, Client, status } from '@grpc/grpc-js'
import { createEngineClient } from '#engine/client/engine.ts'
import { deafSink } from '#engine/client/fixtures/deaf-sink.ts'
import { systemClock } from '#engine/ops/clock.ts'
import { engineServerName, type Identity, openIdentity } from '#engine/ops/identity.ts'
import { silentLog } from '#engine/ops/log.ts'
import { openMetrics } from '#engine/ops/metrics.ts'
import { makeCertificates } from '#engine/process/certs.ts'
import { LetterBatch, label, letterKinds } from '#protos/letter.ts'
import { healthService, healthServing, linkService } from '#protos/link.ts'
import { type Listener, openListener } from './listener.ts'
import { createRelay } from './relay.ts'

const hasOpenssl = spawnSync('openssl', ['version'], { stdio: 'ignore' }).status === 0
const home = mkdtempSync(path.join(tmpdir(), 'parley-certs-'))
const ours = path.join(home, 'ours')
const foreign = path.join(home, 'foreign')
const old = path.join(home, 'old')

describe('links off loopback', { skip: hasOpenssl ? false : 'openssl is not installed' }, () => {
  let listener: Listener
  let links = 0
  before(async () => {
    await makeCertificates(ours, 30)
    await makeCertificates(foreign, 30)
    const relay = createRelay({
      clock: systemClock,
      log: silentLog,
      metrics: openMetrics(),
      directory: { heads: async () => new Map() },
      epochOf: () => undefined,
      nodeId: 'n',
      incarnation: 'i',
      worker: 0,
    })
    const counted: typeof relay = {
      ...relay,
      open(sink) {
        links++
        return relay.open(sink)
      },
    }
    listener = await openListener(counted, silentLog, '127.0.0.1', 0, openIdentity(ours, 'engine'))
  })
  after(() => {
    listener?.close()
    rmSync(home, { recursive: true, force: true })
  })

  /** What a link attempt comes to: 'hello', or the status that it ends with. */
  function tryLink(
    identity: Pick<Identity, 'client'>,
    method: (typeof linkService)['link' | 'relay'] = linkService.link,
  ): Promise<'hello' | status> {
    const { credentials, options } = identity.client()
    const client = new Client(listener.addr, credentials, options)
    const stream = client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize)
    const greeting = new LetterBatch()
    greeting.push(label(letterKinds.hello), Buffer.from(JSON.stringify({ version: 1, nodeId: 'g', role: 'gateway' })))
    stream.write(greeting.take())
    return new Promise<'hello' | status>(resolve => {
      stream.once('data', () => resolve('hello'))
      stream.once('error', (error: Error & { code: status }) => resolve(error.code))
    }).finally(() => {
      stream.on('error', () => undefined)
      stream.cancel()
      client.close()
    })
  }
  const stranger = (ca: string): Pick<Identity, 'client'> => ({
    client: () => ({
      credentials: ChannelCredentials.createSsl(readFileSync(path.join(ca, 'ca.pem'))),
      options: { 'grpc.ssl_target_name_override': engineServerName },
    }),
  })

  test('[TLS1] a gateway of our CA opens a link, over the real client too', async t => {
    assert.equal(await tryLink(openIdentity(ours, 'gateway')), 'hello')
    const client = createEngineClient({
      clock: systemClock,
      log: silentLog,
      metrics: openMetrics(),
      nodeId: 'g',
      identity: openIdentity(ours, 'gateway'),
      readRoutes: async () => [{ shard: 0, epoch: 1, addr: listener.addr }],
    })
    t.after(() => client.close())
    await client.start(deafSink)
    for (let i = 0; i < 200 && !client.isReady(); i++) await new Promise(resolve => setTimeout(resolve, 10))
    assert.ok(client.isReady())
  })

  test('[TLS2] nobody, a plain caller, another CA and another role open none', async () => {
    const before = links
    assert.equal(await tryLink(stranger(ours)), status.PERMISSION_DENIED)
    // An engine passes on what a gateway gives it, and asks nobody else to.
    assert.equal(await tryLink(openIdentity(ours, 'engine'), linkService.relay), status.PERMISSION_DENIED)
    assert.equal(await tryLink(stranger(ours), linkService.relay), status.PERMISSION_DENIED)
    assert.equal(await tryLink(openIdentity('', 'gateway')), status.UNAVAILABLE)
    // Our CA believed, their certificate shown.
    const mixed = path.join(home, 'mixed')
    await makeCertificates(mixed, 30)
    copyFileSync(path.join(ours, 'ca.pem'), path.join(mixed, 'ca.pem'))
    assert.equal(await tryLink(openIdentity(mixed, 'gateway')), status.PERMISSION_DENIED)
    assert.equal(links, before)
  })

  test('[TLS3] a certificate that is out of date opens none', async () => {
    mkdirSync(old)
    for (const name of ['ca.pem', 'ca.key']) copyFileSync(path.join(ours, name), path.join(old, name))
    await makeCertificates(old, -1)
    assert.equal(await tryLink(openIdentity(old, 'gateway')), status.PERMISSION_DENIED)
  })

  test('[TLS4] a gateway gives no letter to a server that is no engine of our CA', async () => {
    assert.equal(await tryLink(openIdentity(foreign, 'gateway')), status.UNAVAILABLE)
    const asEngine = await openListener(
      createRelay({
        clock: systemClock,
        log: silentLog,
        metrics: openMetrics(),
        directory: { heads: async () => new Map() },
        epochOf: () => undefined,
        nodeId: 'n',
        incarnation: 'i',
        worker: 0,
      }),
      silentLog,
      '127.0.0.1',
      0,
      openIdentity(ours, 'gateway'),
    )
    const right = listener
    listener = asEngine
    try {
      assert.equal(await tryLink(openIdentity(ours, 'gateway')), status.UNAVAILABLE)
    } finally {
      listener = right
      asEngine.close()
    }
  })

  test('[TLS5] the health check needs no identity', async () => {
    const { credentials, options } = stranger(ours).client()
    const client = new Client(listener.addr, credentials, options)
    const { path: method, requestSerialize, responseDeserialize } = healthService.check
    const answer = await new Promise((resolve, reject) => {
      client.makeUnaryRequest(method, requestSerialize, responseDeserialize, Buffer.alloc(0), (error, value) =>
        error ? reject(error) : resolve(value),
      )
    })
    assert.deepEqual(answer, healthServing)
    client.close()
  })

  test('[TLS6] keys are readable by their owner only, and a second run keeps the CA', async () => {
    const files = await makeCertificates(ours, 30)
    assert.deepEqual(files, ['gateway.pem', 'gateway.key', 'engine.pem', 'engine.key'])
    for (const name of ['ca.key', 'gateway.key', 'engine.key'])
      assert.equal(statSync(path.join(ours, name)).mode & 0o077, 0, name)
    // What was signed before and what is signed now are of one CA.
    assert.equal(await tryLink(openIdentity(ours, 'gateway')), 'hello')
  })
})
