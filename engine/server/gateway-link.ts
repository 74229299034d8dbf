/**
 * One gateway's link as the worker sees it: what leaves for it, under the credit that it granted. Out of credit, facts and
 * everything like them are dropped and the link is behind; when credit is back it is told so once (`lagged`) and attaches
 * again. Answers always leave: the credit of the commands they answer covers them.
 */

import { CreditPurse, CreditTab, type LetterSink, LetterWriter } from '#engine/ops/letter-writer.ts'
import type { Metrics } from '#engine/ops/metrics.ts'
import { type Label, type Letter, label, letterBytes, letterKinds } from '#protos/letter.ts'
import { linkUnreadBytesMax } from '#protos/limits.ts'
import { LinkOrder } from './order.ts'

const noBody = new Uint8Array(0)

export class GatewayLink {
  readonly linkId: number
  readonly order = new LinkOrder()
  /** Name of the gateway; '' until its hello came. */
  nodeId = ''
  isClosed = false
  #writer: LetterWriter
  #purse = new CreditPurse()
  #tab = new CreditTab()
  #isBehind = false
  #metrics: Metrics

  constructor(linkId: number, sink: LetterSink, metrics: Metrics) {
    this.linkId = linkId
    this.#metrics = metrics
    this.#writer = new LetterWriter(sink, letters => {
      metrics.parley_link_batches_total.inc({ direction: 'down' })
      metrics.parley_link_letters_total.inc({ direction: 'down' }, letters)
    })
  }

  get isGreeted(): boolean {
    return this.nodeId !== ''
  }

  get isBehind(): boolean {
    return this.#isBehind
  }

  /** So many answers are unread that more must not be made for it. */
  get isClogged(): boolean {
    return this.#purse.debtBytes > linkUnreadBytesMax
  }

  /** Outside the credit: hello, credit, lagged. */
  signal(what: Label, body: Uint8Array = noBody): void {
    this.#writer.push(what, body)
  }

  answer(what: Label, body: Uint8Array): void {
    this.#purse.spend(this.#writer.push(what, body))
  }

  /** Left out while the gateway is behind. Answers whether it left. */
  publish(what: Label, body: Uint8Array): boolean {
    if (!this.#isBehind && this.#purse.isEmpty) {
      this.#isBehind = true
      this.#metrics.parley_link_lagged_total.inc()
    }
    if (this.#isBehind) return false
    this.#purse.spend(this.#writer.push(what, body))
    return true
  }

  /** The gateway has read that much. */
  credit(bytes: number, letters: number): void {
    this.#purse.give(bytes, letters)
    if (!this.#isBehind || !this.#purse.isRestored) return
    this.#isBehind = false
    this.signal(label(letterKinds.lagged))
  }

  /** Counts a letter that came and gives credit back in quarters. */
  read(letter: Letter): void {
    const due = this.#tab.read(letterBytes(letter.label, letter.body))
    if (due) this.signal(label(letterKinds.credit, { seq: due.bytes, age: due.letters }))
  }

  flush(): void {
    this.#writer.flush()
  }

  close(): void {
    this.isClosed = true
    this.#writer.close()
  }
}
