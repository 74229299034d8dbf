/**
 * What one run may spend: reserved before each request to the model, settled with what it cost. Refuses to judge: the
 * budget's store decides. A cost that cannot be told to it stays as it was reserved, so that nothing is spent twice.
 */
import type { Tokens } from '#engine/conversation/events.ts'
import { budgetRetryMs, budgetTriesMax } from '#protos/limits.ts'
import type { Context } from './context.ts'
import type { ToolOffer, TurnMessage } from './ports.ts'

/** Why a request may not be made, in words for its person. */
export interface Unfunded {
  message: string
  retryAfterMs: number
}

export type Cost = Tokens & { estimated: boolean }

export class Purse {
  readonly #runId: string
  readonly #userId: string
  readonly #context: Context
  /** A reservation that overtook the last settlement would take the request before for one that nobody knows of. */
  #settled: Promise<void> = Promise.resolve()

  constructor(runId: string, userId: string, context: Context) {
    this.#runId = runId
    this.#userId = userId
    this.#context = context
  }

  /** Undefined: the request may be made. Throws when the store stays away. */
  async reserve(round: number, tokens: number): Promise<Unfunded | undefined> {
    const { budget, clock } = this.#context
    if (!budget) return undefined
    await this.#settled
    const asked = { runId: this.#runId, userId: this.#userId, round, tokens }
    const answer = await this.#insist(() => budget.reserve(asked))
    if (answer.isGranted) return undefined
    const at = new Date(clock.now() + answer.resetsInMs).toISOString()
    const whose = answer.scope === 'user' ? 'your' : 'everybody’s'
    return {
      message: `${whose} tokens of this day are used up: ${answer.left} left, this needs up to ${tokens}; again at ${at}`,
      retryAfterMs: answer.resetsInMs,
    }
  }

  settle(round: number, { input, output, estimated }: Cost): void {
    const { budget, log } = this.#context
    if (!budget) return
    const spent = { runId: this.#runId, round, input, output, estimated }
    this.#settled = this.#insist(() => budget.settle(spent)).catch((error: unknown) => {
      log.warn('what a turn has cost could not be kept; it counts as reserved', { messageId: this.#runId, err: error })
    })
  }

  async #insist<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await work()
      } catch (error) {
        if (tries >= budgetTriesMax) throw error
        await new Promise<void>(go => void this.#context.timers.after(budgetRetryMs * 2 ** tries, go))
      }
    }
  }
}

/** No more tokens than this go to the model: none is shorter than a byte, and the JSON around them weighs more than theirs. */
export function promptTokensAtMost(messages: readonly TurnMessage[], tools: readonly ToolOffer[]): number {
  return Buffer.byteLength(JSON.stringify([messages, tools]))
}
