/**
 * `node load/bench/takeover.ts [conversations]`: a cluster with so many conversations in memory; each gets one send while nothing
 * is wrong, then each time an engine's process is killed, then while one stands still. Prints how long after the fault the
 * first send of each conversation was acked, and writes it into load/RESULTS.md. Every send is acked in the end, or it fails.
 */
import { availableParallelism, cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Cluster, startTestCluster } from '#load/kit/cluster.ts'
import { writeSection } from '#load/kit/results.ts'
import { fairShare } from '#load/kit/shares.ts'
import { WsClient } from '#load/kit/ws-client.ts'
import { receiptFlushMs } from '#protos/limits.ts'
import { type Sender, wires } from './wires.ts'

const count = Number(process.argv[2] ?? 10_000)
/** Conversations of two, a socket each: with more of them the second would be spent on fan-out, which is another measurement. */
const userCount = 200
const makers = 16
/** Sends leave evenly over this; all at once would measure the queue and not the takeover. */
const spreadMs = 1000
const ackMsMax = 30_000
/** Until the positions that a round moved are in the database: twenty thousand rows that are no part of the next. */
const storedMs = receiptFlushMs + 3000
/** Each one send in every conversation: about the first minute of a cluster in use. */
const warmRounds = 8
const hungMs = 12_000
/** One kill says as much of the minute as of the product. */
const kills = 5
const wire = wires.parley

interface Line {
  what: string
  /** From the fault, or from the first send where there is none, to the ack; ms by conversation. */
  acks: number[]
}

/** One socket and the conversations that it sends to. */
class Lane {
  /** The last one's frame. */
  refusal = ''
  readonly #own: Sender[] = []
  #client: WsClient | undefined
  readonly #acked: (n: number) => void

  constructor(acked: (n: number) => void) {
    this.#acked = acked
  }

  async open(url: string, sender: Sender): Promise<void> {
    const ready = Promise.withResolvers<void>()
    this.#client = await WsClient.open(`${url}${wire.path}`, {
      onText: bytes => {
        const came = wire.read(this.#client!, bytes, sender)
        if (typeof came === 'number') this.#acked(came)
        else if (came === 'ready') ready.resolve()
        else if (came === 'refused') void this.#again(bytes.toString())
      },
    })
    wire.hello(this.#client, sender)
    await ready.promise
  }

  send(n: number, sender: Sender): void {
    this.#own[n] = sender
    this.#client!.send(`{"requestId":"${n}",${wire.send(n, sender).slice(1)}`)
  }

  /** A refused send comes again under its id, as a client would do it. */
  async #again(text: string): Promise<void> {
    this.refusal = text
    const { requestId, retryAfterMs = 500 } = JSON.parse(text) as { requestId?: string; retryAfterMs?: number }
    await sleep(retryAfterMs)
    this.send(Number(requestId), this.#own[Number(requestId)]!)
  }

  close(): void {
    this.#client?.destroy()
  }
}

async function main(): Promise<void> {
  const cluster = await startTestCluster({ RATE_LIMIT_SCALE: '1000', SOCKETS_PER_ADDRESS: '0', BCRYPT_COST: '6' })
  try {
    const lines = await measure(cluster)
    const text = report(lines)
    console.log(text)
    writeSection('Takeover', text)
  } finally {
    await cluster.stop()
  }
}

async function measure(cluster: Cluster): Promise<Line[]> {
  const tokens = await cluster.seed(userCount)
  const conversations = await make(cluster, tokens)
  await fairShare(cluster)

  const ackedAt = new Float64Array((warmRounds + 1 + kills + 1) * count)
  let sent = 0
  const lanes: Lane[] = []
  for (let i = 0; i < userCount; i++) {
    const lane = new Lane(n => {
      ackedAt[n] ||= performance.now()
    })
    const token = tokens[i]!
    const url = cluster.file().gateways[i % 2]!.url.replace('http', 'ws')
    await lane.open(url, { token, conversation: '' })
    lanes.push(lane)
  }
  /** One send in each; ms from now on until it was acked. */
  const round = async (): Promise<number[]> => {
    const first = sent
    sent += count
    const from = performance.now()
    for (let i = 0; i < count; ) {
      const due = Math.min(count, Math.ceil(((performance.now() - from) / spreadMs) * count))
      for (; i < due; i++) lanes[i % lanes.length]!.send(first + i, conversations[i]!)
      await sleep(1)
    }
    const isAcked = () => ackedAt.subarray(first, first + count).every(at => at > 0)
    while (!isAcked()) {
      if (performance.now() - from > ackMsMax) {
        const owed = ackedAt.subarray(first, first + count).filter(at => at === 0).length
        throw new Error(`${owed} sends were never acked; the last refusal: ${lanes.find(l => l.refusal)?.refusal}`)
      }
      await sleep(20)
    }
    return Array.from(ackedAt.subarray(first, first + count), at => at - from)
  }
  const lines: Line[] = []
  // Both are asked as they run after a while: what V8 still compiles in the first minute would be an eighth of all.
  for (let i = 0; i < warmRounds; i++) {
    await round()
    await sleep(1000)
  }
  await sleep(storedMs)
  lines.push({ what: 'nothing', acks: await round() })

  for (let n = 1; n <= kills; n++) {
    await sleep(storedMs)
    process.kill(cluster.file().engines[0]!.pid, 'SIGKILL')
    lines.push({ what: `an engine process killed (${n})`, acks: await round() })
    await cluster.ready()
    await fairShare(cluster)
  }

  await sleep(storedMs)
  const { pid } = cluster.file().engines[1]!
  process.kill(pid, 'SIGSTOP')
  const goesOn = sleep(hungMs).then(() => process.kill(pid, 'SIGCONT'))
  lines.push({ what: `an engine process stopped for ${hungMs / 1000} s`, acks: await round() })
  await goesOn
  for (const lane of lanes) lane.close()
  return lines
}

async function make(cluster: Cluster, tokens: readonly string[]): Promise<Sender[]> {
  const out: Sender[] = []
  let next = 0
  const maker = async () => {
    for (let i = next++; i < count; i = next++) {
      const token = tokens[i % userCount]!
      const usernames = [`seed_${((i + 1) % userCount) + 1}`]
      const body = { type: 'group', title: `room ${i}`, usernames }
      const { id } = await cluster.request<{ id: string }>(i % 2, token, 'POST', '/conversations', body)
      out[i] = { token, conversation: id }
    }
  }
  await Promise.all(Array.from({ length: makers }, maker))
  return out
}

const at = (list: readonly number[], q: number) =>
  list.toSorted((a, b) => a - b)[Math.min(list.length - 1, Math.floor(q * list.length))]!

function report(lines: readonly Line[]): string {
  const killed = lines.filter(({ what }) => what.includes('killed')).map(({ acks }) => at(acks, 0.99))
  return [
    `${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim()}, ${availableParallelism()} cores, Node ${process.version}: ${count} conversations in memory of two engines, one send in each`,
    `over the first ${spreadMs} ms after the fault. From the fault to the ack of each conversation's first send; all were acked.`,
    `G11 asks for 1.5 s p99 after a kill, of which the median is ${at(killed, 0.5).toFixed(0)} ms here, and 8 s for a process that stands still.`,
    '',
    '| fault | p50 ms | p90 | p99 | max |',
    '| --- | ---: | ---: | ---: | ---: |',
    ...lines.map(
      ({ what, acks }) => `| ${what} | ${[0.5, 0.9, 0.99, 1].map(q => at(acks, q).toFixed(0)).join(' | ')} |`,
    ),
  ].join('\n')
}

await main()
process.exit(0)
