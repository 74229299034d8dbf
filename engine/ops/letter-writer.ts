/**
 * The sending half of a link, for both ends: gathers the letters of one turn of the event loop into one gRPC message, under
 * load those of a few ms, honours back-pressure, and keeps the credit that the peer has granted. Refuses to know what a
 * letter means or to drop one.
 */
import { type Label, LetterBatch, letterBytes } from '#protos/letter.ts'
import {
  linkBusyLettersMin,
  linkCreditBytes,
  linkCreditLetters,
  linkHoldLettersMax,
  linkHoldMs,
} from '#protos/limits.ts'

/** The part of a gRPC stream that is needed. */
export interface LetterSink {
  write(bytes: Buffer): boolean
  once(event: 'drain', then: () => void): unknown
}

/** What the other end is still willing to take. May go below zero by what must be sent whatever the credit. */
export class CreditPurse {
  #bytes = linkCreditBytes
  #letters = linkCreditLetters

  spend(bytes: number): void {
    this.#bytes -= bytes
    this.#letters -= 1
  }

  /** Credit that came back; more than was ever granted is the peer's mistake and is cut. */
  give(bytes: number, letters: number): void {
    this.#bytes = Math.min(linkCreditBytes, this.#bytes + bytes)
    this.#letters = Math.min(linkCreditLetters, this.#letters + letters)
  }

  get isEmpty(): boolean {
    return this.#bytes <= 0 || this.#letters <= 0
  }

  /** Sent beyond the credit, because it had to be. */
  get debtBytes(): number {
    return Math.max(0, -this.#bytes)
  }

  /** Enough came back to go on without stopping again at once. */
  get isRestored(): boolean {
    return this.#bytes >= linkCreditBytes / 4 && this.#letters >= linkCreditLetters / 4
  }
}

/** What this end has read and not yet given back. */
export class CreditTab {
  #bytes = 0
  #letters = 0

  /** Counts one letter that was read; answers what to give back once a quarter of the grant was used. */
  read(bytes: number): { bytes: number; letters: number } | undefined {
    this.#bytes += bytes
    this.#letters += 1
    if (this.#bytes < linkCreditBytes / 4 && this.#letters < linkCreditLetters / 4) return undefined
    const due = { bytes: this.#bytes, letters: this.#letters }
    this.#bytes = 0
    this.#letters = 0
    return due
  }
}

export class LetterWriter {
  #sink: LetterSink
  #sent: (letters: number) => void
  #batches: LetterBatch[] = []
  #isScheduled = false
  #isBlocked = false
  #isClosed = false
  #letters = 0
  /** The peer answers by many letters at once. */
  #isPeerBusy = false
  #isUnanswered = false
  #held: NodeJS.Timeout | undefined

  /** `sent` is told the number of letters of each gRPC message that leaves. */
  constructor(sink: LetterSink, sent: (letters: number) => void) {
    this.#sink = sink
    this.#sent = sent
  }

  /**
   * The peer sent so many letters at once: whoever waited for them leaves. While they are many, the next letters wait for the
   * next ones: a message for each letter would cost both ends more than all the letters in it. Not for ends that answer.
   */
  heard(letters: number): void {
    this.#isPeerBusy = letters >= linkBusyLettersMin
    this.#isUnanswered = false
    if (this.#held) this.#unhold()
  }

  /**
   * Leaves with all others of this turn, or with the next answer of a busy peer. The body must not change until then.
   * Answers the bytes that it takes.
   */
  push(label: Label, body: Uint8Array): number {
    if (this.#isClosed) return 0
    let batch = this.#batches.at(-1)
    if (batch === undefined || !batch.fits(label, body)) {
      batch = new LetterBatch()
      this.#batches.push(batch)
    }
    batch.push(label, body)
    this.#letters++
    if (!this.#isScheduled && !this.#isBlocked) {
      this.#isScheduled = true
      if (this.#isPeerBusy && this.#isUnanswered) this.#held = setTimeout(() => this.#unhold(), linkHoldMs)
      else setImmediate(() => this.#flush())
    } else if (this.#held && this.#letters >= linkHoldLettersMax) this.#unhold()
    return letterBytes(label, body)
  }

  /** Sends what is gathered now; for the last letters of a link. */
  flush(): void {
    if (!this.#isBlocked) this.#flush()
  }

  /** Drops what did not leave. */
  close(): void {
    this.#isClosed = true
    this.#batches = []
    clearTimeout(this.#held)
  }

  #unhold(): void {
    clearTimeout(this.#held)
    this.#held = undefined
    setImmediate(() => this.#flush())
  }

  #flush(): void {
    this.#isScheduled = false
    this.#letters = 0
    clearTimeout(this.#held)
    this.#held = undefined
    while (!this.#isBlocked && !this.#isClosed) {
      const batch = this.#batches.shift()
      if (batch === undefined) return
      this.#isUnanswered = true
      this.#sent(batch.count)
      if (this.#sink.write(batch.take())) continue
      this.#isBlocked = true
      this.#sink.once('drain', () => {
        this.#isBlocked = false
        this.#flush()
      })
    }
  }
}
