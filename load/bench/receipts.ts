/**
 * `node load/bench/receipts.ts [--smoke]`: what a read receipt costs (G14): readers of 200 conversations go through what was sent there,
 * one position at a time; CPU above that of the same sockets at rest, and rows written to Postgres. Fails when a position did not
 * arrive in Postgres.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Client } from 'pg'
import { machineLine } from '#load/kit/machine.ts'
import { recordGoals, writeSection } from '#load/kit/results.ts'
import { scrape, sumOf } from '#load/kit/scrape.ts'
import { WsClient } from '#load/kit/ws-client.ts'
import { receiptFlushMs } from '#protos/limits.ts'
import { Load } from './load.ts'
import { type Ground, type ParleySubject, startGround, startParley } from './subjects.ts'
import { type Sender, wires } from './wires.ts'

const { values } = parseArgs({ options: { smoke: { type: 'boolean' } } })
const isSmoke = values.smoke === true
const pairCount = isSmoke ? 10 : 200
const rate = isSmoke ? 200 : 5000
const runMs = isSmoke ? 1000 : 20_000
const sendRate = isSmoke ? 200 : 5000
const wire = wires.parley
const total = (rate * runMs) / 1000
const each = total / pairCount

async function sit(url: string, sender: Sender): Promise<WsClient> {
  const ready = Promise.withResolvers<void>()
  const client = await WsClient.open(`${url}${wire.path}`, {
    onText(bytes) {
      const came = wire.read(client, bytes, sender)
      if (came === 'ready') ready.resolve()
      else if (came === 'refused') ready.reject(new Error(bytes.toString()))
    },
    onClose: code => ready.reject(new Error(`closed ${code}`)),
  })
  wire.hello(client, sender)
  await ready.promise
  return client
}

/** Every reader goes one position on, in turn. */
async function read(readers: readonly { client: WsClient; conversation: string; from: number }[]): Promise<void> {
  const began = performance.now()
  for (let i = 0; i < total; await sleep(1)) {
    const due = Math.min(total, Math.floor(((performance.now() - began) / 1000) * rate))
    for (; i < due; i++) {
      const { client, conversation, from } = readers[i % readers.length]!
      const seq = from + Math.floor(i / readers.length) + 1
      client.send(`{"type":"receipt.read","conversationId":"${conversation}","seq":${seq}}`)
    }
  }
}

async function measure(ground: Ground, subject: ParleySubject) {
  const people = await subject.pairs(pairCount)
  const authors = people.filter((_, i) => i % 2 === 0)
  const sql = new Client({ connectionString: ground.databaseUrl })
  await sql.connect()
  try {
    const load = await Load.open(subject, authors)
    const span = { warmMs: 0, runMs: (total * 1000) / sendRate, drainMs: 10_000 }
    const m = await load.measure({ kind: 'step', rate: sendRate, burst: 1, senders: authors.length, ...span })
    if (m.acked !== m.due) throw new Error(`${m.acked} of ${m.due} sends were acked`)
    const heads = await sql.query<{ id: string; head: string }>(
      'select conversation_id as id, max(seq) as head from event group by conversation_id',
    )
    const headOf = new Map(heads.rows.map(r => [r.id, Number(r.head)]))
    const readers: { client: WsClient; conversation: string; from: number }[] = []
    for (const sender of people.filter((_, i) => i % 2 === 1)) {
      const client = await sit(subject.url, sender)
      readers.push({ client, conversation: sender.conversation, from: headOf.get(sender.conversation)! - each })
    }
    // What was delivered by now is stored.
    await sleep(isSmoke ? 500 : receiptFlushMs + 3000)
    const used = () => subject.cpu()
    const rows = async () => sumOf(await scrape(subject.product.node().engineMetricsUrl!), 'parley_receipt_rows_total')
    const atRest = used()
    await sleep(runMs)
    const [before, rowsBefore] = [used(), await rows()]
    await read(readers)
    await sleep(500)
    const after = used()
    const spent = Object.fromEntries(
      Object.entries(after).map(([name, ms]) => [
        name,
        ((ms - before[name]! - (before[name]! - atRest[name]!)) * 1000) / total,
      ]),
    )
    await sleep(receiptFlushMs + 3000)
    const written = (await rows()) - rowsBefore
    const late = await sql.query<{ n: number }>(
      `select count(*)::int as n from unnest($1::uuid[]) c(id)
        where not exists (select 1 from conversation_member m where m.conversation_id = c.id
          and m.last_read_seq >= (select max(seq) from event e where e.conversation_id = c.id))`,
      [readers.map(r => r.conversation)],
    )
    for (const { client } of readers) client.destroy()
    await load.end()
    return { spent, written, missing: late.rows[0]!.n }
  } finally {
    await sql.end()
  }
}

const ground = await startGround()
let subject: ParleySubject | undefined
try {
  subject = await startParley(ground)
  const { spent, written, missing } = await measure(ground, subject)
  const all = Object.values(spent).reduce((a, b) => a + b, 0)
  // Each of the flushes may write each reader's row once; the last one comes after the last receipt.
  const windows = Math.ceil(runMs / receiptFlushMs) + 1
  const perWindow = written / (pairCount * windows)
  const parts = Object.entries(spent).map(([name, us]) => `${name} ${us.toFixed(1)}`)
  const text = [
    `Machine: ${machineLine()}.`,
    '',
    `${total} read receipts at ${rate} a second, each one position further, by ${pairCount} readers whose partner is connected: ${all.toFixed(1)} µs of CPU each (${parts.join(', ')}),`,
    `above what the same sockets take at rest. ${written} rows written to Postgres: ${perWindow.toFixed(2)} for each reader and ${receiptFlushMs / 1000} s.`,
  ].join('\n')
  console.log(`\n${text}\n`)
  if (missing > 0) console.log(`FAIL ${missing} readers' last position is not in Postgres`)
  if (!isSmoke && missing === 0) {
    writeSection('Receipts', text)
    recordGoals(
      [
        {
          id: 'G14',
          what: 'a receipt, µs CPU',
          floor: '≤ 4',
          aim: '2',
          measured: `${all.toFixed(1)} (${parts.join(', ')})`,
          isMet: all <= 4,
        },
        {
          id: 'G14',
          what: 'Postgres rows per reader and 10 s',
          floor: '≤ 1',
          aim: '',
          measured: perWindow.toFixed(2),
          isMet: perWindow <= 1,
        },
      ],
      'receipts',
    )
  }
  console.log(missing === 0 ? '1 passed, 0 failed' : '0 passed, 1 failed')
  process.exitCode = missing === 0 ? 0 : 1
} finally {
  await subject?.stop()
  await ground.stop()
}
process.exit()
