/** What the rig's scripts share: who talks where, the loop in which they send, and the audit at the end. */
import { setTimeout as sleep } from 'node:timers/promises'
import { checkEpochs, checkLog, checkOrder, checkResume, type History } from '#load/kit/checkers.ts'
import type { Product } from '#load/kit/product.ts'
import type { Recorder } from './recorder.ts'

export interface Conversation {
  id: string
  /** Indexes into the tokens. */
  members: number[]
}

/** Two groups of everybody and three direct chats, for six users; both threads of an engine own some. */
export async function makeConversations(product: Pick<Product, 'request'>, tokens: string[]): Promise<Conversation[]> {
  const out: Conversation[] = []
  const make = async (body: object, members: number[]) => {
    const { id } = await product.request<{ id: string }>(tokens[members[0]!]!, 'POST', '/conversations', body)
    out.push({ id, members })
  }
  const names = (members: number[]) => members.slice(1).map(i => `seed_${i + 1}`)
  const all = tokens.map((_, i) => i)
  for (const title of ['first', 'second']) await make({ type: 'group', title, usernames: names(all) }, all)
  for (let i = 0; i + 1 < tokens.length; i += 2) await make({ type: 'dm', usernames: names([i, i + 1]) }, [i, i + 1])
  return out
}

/** One send after another until it is over; each is sent until it is acked. */
export async function sendLoop(
  client: Recorder,
  conversation: string,
  lane: string,
  isOver: () => boolean,
): Promise<void> {
  for (let n = 0; !isOver(); n++) {
    await client.send(conversation, `${lane} says ${n}`)
    await sleep(20)
  }
}

export function auditOf(history: History): Record<string, string[]> {
  return {
    'C1 every ack at its seq in SQL and REST, no gap, no duplicate': checkLog(history),
    'C2 one order, acks in real time': checkOrder(history),
    'C3 live and resume without a hole': checkResume(history),
    'C7 epochs never go back': checkEpochs(history),
  }
}

/** Prints each check with what it found. */
export function audit(checks: Record<string, string[]>): { passed: number; failed: number } {
  const counts = { passed: 0, failed: 0 }
  for (const [name, problems] of Object.entries(checks)) {
    console.log(`${problems.length === 0 ? 'ok  ' : 'FAIL'} ${name}`)
    for (const problem of problems) console.log(`     ${problem}`)
    counts[problems.length === 0 ? 'passed' : 'failed']++
  }
  return counts
}

/** The last line of a run. */
export function sayCounts({ passed, failed }: { passed: number; failed: number }): number {
  console.log(`${passed} passed, ${failed} failed`)
  return failed
}
