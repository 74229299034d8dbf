/**
 * Raw loops: what Postgres and a socket do by themselves on this machine, as the ground that the others are compared with.
 */
import { connect, createServer, type Socket } from 'node:net'
import { Client } from 'pg'

/** One INSERT after another over one connection, ms. */
export async function rawCommit(databaseUrl: string, runMs: number): Promise<{ p50: number; p99: number }> {
  const client = new Client({ connectionString: databaseUrl })
  await client.connect()
  await client.query('create table if not exists raw_line (n bigserial primary key, body text not null)')
  const text = 'message number 12345: the quick brown fox jumps over the lazy dog'
  const query = () =>
    client.query({ name: 'raw_insert', text: 'insert into raw_line (body) values ($1)', values: [text] })
  for (let i = 0; i < 100; i++) await query()
  const spans: number[] = []
  for (const until = performance.now() + runMs; performance.now() < until; ) {
    const from = performance.now()
    await query()
    spans.push(performance.now() - from)
  }
  await client.query('drop table raw_line')
  await client.end()
  spans.sort((a, b) => a - b)
  return { p50: spans[Math.floor(spans.length / 2)]!, p99: spans[Math.floor(spans.length * 0.99)]! }
}

const frameBytes = 122

/** Writes of one pre-framed 120-byte text to many sockets of this process, deliveries a second of one core. */
export async function rawWrites(sockets: number, runMs: number): Promise<number> {
  const server = createServer()
  const accepted: Socket[] = []
  server.on('connection', socket => {
    socket.on('error', () => {})
    accepted.push(socket)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const clients = await Promise.all(
    Array.from(
      { length: sockets },
      () =>
        new Promise<Socket>((resolve, reject) => {
          const client = connect(port, '127.0.0.1', () => resolve(client))
          client.once('error', reject)
          client.resume()
        }),
    ),
  )
  while (accepted.length < sockets) await new Promise(resolve => setTimeout(resolve, 10))
  const frame = Buffer.alloc(frameBytes, 0x61)
  frame[0] = 0x81
  frame[1] = frameBytes - 2
  let written = 0
  const cpu = process.cpuUsage()
  const from = performance.now()
  while (performance.now() - from < runMs) {
    for (const socket of accepted) socket.write(frame)
    written += accepted.length
    await new Promise(resolve => setImmediate(resolve))
  }
  const used = process.cpuUsage(cpu)
  for (const client of clients) client.destroy()
  for (const socket of accepted) socket.destroy()
  await new Promise<void>(resolve => server.close(() => resolve()))
  // The reading side is in this process as well; what counts is CPU, not the clock.
  return (written * 1e6) / (used.user + used.system)
}
