/**
 * Conversations in which one turn after another is asked for, watched by three people on two gateways, stopped, and decided
 * about, whatever happens to the cluster meanwhile. Writes down what was asked. Refuses to judge.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '#engine/ops/clock.ts'
import type { TurnPlan } from './stream-plan.ts'
import { questionOf } from './upstream.ts'
import { scriptOf } from './upstream-scripts.ts'
import { Viewer, type ViewerFrame } from './viewers.ts'
import type { World } from './world.ts'

export interface Asked {
  run: string
  plan: TurnPlan
  conversation: string
  questionId: string
  askedAt: number
  stopAt?: number
  endedAt?: number
}

/** Longer than the total deadline of a turn, with a takeover on top. */
const turnMsMax = 240_000
const retryMs = 300
const peoplePerLane = 3

export class Lane {
  readonly conversation: string
  readonly viewers: Viewer[]
  readonly asked: Asked[]
  /** Turns that never ended, or could not be asked for. */
  readonly problems: string[] = []
  readonly #isEnded: (asked: Asked) => boolean
  readonly #isAtModel: (run: string) => boolean
  #current: Asked | undefined

  static async make(
    world: World,
    tokens: readonly string[],
    index: number,
    asked: Asked[],
    isEnded: (asked: Asked) => boolean,
    isAtModel: (run: string) => boolean,
  ): Promise<Lane> {
    const first = index * peoplePerLane
    const names = [2, 3].map(n => `seed_${first + n}`)
    const { id } = await post<{ id: string }>(world.restUrl(), tokens[first]!, '/conversations', {
      type: 'group',
      title: `lane ${index}`,
      usernames: names,
    })
    return new Lane(world, id, tokens.slice(first, first + peoplePerLane), index, asked, isEnded, isAtModel)
  }

  private constructor(
    world: World,
    conversation: string,
    tokens: readonly string[],
    index: number,
    asked: Asked[],
    isEnded: (asked: Asked) => boolean,
    isAtModel: (run: string) => boolean,
  ) {
    this.conversation = conversation
    this.asked = asked
    this.#isEnded = isEnded
    this.#isAtModel = isAtModel
    this.viewers = tokens.map(
      (token, i) =>
        new Viewer({
          name: `lane ${index} viewer ${i}`,
          token,
          conversation,
          wsUrl: () => gatewayOf(world, index + i),
          onFrame: frame => {
            if (i === 0) this.#decide(frame)
          },
        }),
    )
  }

  async open(): Promise<void> {
    for (const viewer of this.viewers) viewer.start()
    const until = performance.now() + 20_000
    while (!this.viewers.every(v => v.isJoined) && performance.now() < until) await sleep(20)
  }

  async close(): Promise<void> {
    await Promise.all(this.viewers.map(v => v.stop()))
  }

  async play(plan: TurnPlan): Promise<void> {
    const run = randomBytes(8).toString('hex')
    const asked = await this.#ask(run, plan)
    if (!asked) return
    this.#current = asked
    const expectedMs = plan.tokens * plan.gapMs
    const life = new AbortController()
    const acts = [
      this.#stops(asked, expectedMs, life.signal),
      ...plan.reloadAt.map(share => this.#act(share * expectedMs, life.signal, () => this.viewers[1]!.cut(200))),
      ...plan.rejoinAt.map(share => this.#act(share * expectedMs, life.signal, () => this.viewers[2]!.rejoin(100))),
    ]
    const until = performance.now() + turnMsMax
    while (!this.#isEnded(asked) && performance.now() < until) await sleep(50)
    asked.endedAt ??= performance.now()
    life.abort()
    await Promise.all(acts)
    if (!this.#isEnded(asked)) this.problems.push(`${run} (${plan.script}) did not end within ${turnMsMax / 1000} s`)
    this.#current = undefined
  }

  /** The same id until it is acked. */
  async #ask(run: string, plan: TurnPlan): Promise<Asked | undefined> {
    const clientMessageId = systemClock.id()
    const content = questionOf(run, plan.script, plan.tokens, plan.gapMs)
    const askedAt = performance.now()
    while (performance.now() < askedAt + turnMsMax) {
      const frame = { type: 'chat.send', conversationId: this.conversation, clientMessageId, content }
      const answer = await this.viewers[0]!.ask(frame)
      if (answer?.type === 'ack') {
        const asked = { run, plan, conversation: this.conversation, questionId: answer.messageId!, askedAt }
        this.asked.push(asked)
        return asked
      }
      await sleep(retryMs)
    }
    this.problems.push(`${run} could not be asked for`)
    return undefined
  }

  /** By another than who asked: any member may. */
  async #stops(asked: Asked, expectedMs: number, signal: AbortSignal): Promise<void> {
    const { stopAt } = asked.plan
    if (stopAt === undefined) return
    // Counted from the request, where it is the silence of the model that is to be stopped.
    if (scriptOf(asked.plan.script).stops !== undefined)
      while (!this.#isAtModel(asked.run) && !signal.aborted) await sleep(20)
    if (!(await waited(stopAt * expectedMs, signal))) return
    const frame = { type: 'chat.stop', conversationId: this.conversation, messageId: asked.questionId }
    while (!signal.aborted) {
      asked.stopAt ??= performance.now()
      const answer = await this.viewers[0]!.ask(frame)
      if (answer?.type === 'ack') return
      await waited(retryMs, signal)
    }
  }

  async #act(afterMs: number, signal: AbortSignal, what: () => void | Promise<void>): Promise<void> {
    if (await waited(afterMs, signal)) await what()
  }

  /** The person who asked answers each card, twice as people do. */
  #decide(frame: ViewerFrame): void {
    const decision = this.#current && scriptOf(this.#current.plan.script).decides
    if (frame.type !== 'tool.called' || frame.approval !== 'required' || !decision) return
    const order = { type: 'tool.decide', conversationId: this.conversation, callId: frame.callId, decision }
    void (async () => {
      for (let tries = 0; tries < 20; tries++) {
        const answers = await Promise.all([this.viewers[0]!.ask(order), this.viewers[0]!.ask(order)])
        if (answers.some(a => a?.type === 'ack')) return
        await sleep(retryMs)
      }
    })()
  }
}

/** False when it was over before. */
async function waited(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, undefined, { signal })
    return true
  } catch {
    return false
  }
}

/** Its own gateway while that one lives, else any. */
function gatewayOf(world: World, index: number): string | undefined {
  const own = world.gateways[index % world.gateways.length]
  const url = own?.pid() === undefined ? undefined : own.file()?.url
  return (url ?? world.restUrl()).replace(/^http/, 'ws')
}

export async function post<T>(url: string, token: string, where: string, body: unknown): Promise<T> {
  const response = await fetch(url + where, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`POST ${where}: ${response.status} ${text.slice(0, 300)}`)
  return JSON.parse(text) as T
}
