/**
 * Go-back-n of one link: which (socket, conversation) pairs had a letter refused and are refused until the gateway shows,
 * by the restart mark, that it has seen the refusal. Pure bookkeeping: refuses to answer anybody.
 */
import { type Label, letterFlags } from '#protos/letter.ts'
import { linkCreditLetters } from '#protos/limits.ts'

export type Refusal =
  | { kind: 'epoch' }
  | { kind: 'load'; code: 'OVERLOADED' | 'UNAVAILABLE' | 'RLIMIT'; retryAfterMs: number }

export class LinkOrder {
  #marks = new Map<string, { refusal: Refusal; at: number }>()
  #arrived = 0

  get size(): number {
    return this.#marks.size
  }

  /** A letter of an ordered pair came: undefined when it may pass, else why it may not. */
  arrive(label: Label): Refusal | undefined {
    this.#arrived++
    if (this.#marks.size === 0) return undefined
    this.#forgetOld()
    const key = pairKey(label)
    if ((label.flags & letterFlags.restart) !== 0) {
      this.#marks.delete(key)
      return undefined
    }
    return this.#marks.get(key)?.refusal
  }

  /** A letter of the pair was refused. A refusal that is there already stays: the first one decides. */
  refuse(label: Label, refusal: Refusal): void {
    const key = pairKey(label)
    const known = this.#marks.get(key)
    this.#marks.delete(key)
    this.#marks.set(key, { refusal: known?.refusal ?? refusal, at: this.#arrived })
  }

  /**
   * The gateway's credit bounds what it can have sent before it read the refusal: credit given back later travels behind the
   * refusal. So a mark that many letters old has done its work, and there are never more marks than credit.
   */
  #forgetOld(): void {
    for (const [key, mark] of this.#marks) {
      if (this.#arrived - mark.at <= linkCreditLetters) return
      this.#marks.delete(key)
    }
  }
}

/** Only ordered letters have a pair: a socket, and no loose flag. */
export function isOrdered(label: Label): boolean {
  return label.socket !== 0 && (label.flags & letterFlags.loose) === 0
}

function pairKey(label: Label): string {
  return `${label.socket}:${label.conversation}`
}
