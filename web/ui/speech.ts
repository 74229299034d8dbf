/** Says what a growing answer adds to screen readers, one sentence at a time, with pauses in which another may be begun. */
import { proseOf, queued, toSay } from '../text/speech.ts'
import { announce } from './viewport.ts'

const pauseMs = 1500

let waiting: readonly string[] = []
let timer: ReturnType<typeof setTimeout> | undefined

function next(): void {
  timer = undefined
  const [first, ...rest] = waiting
  if (first === undefined) return
  waiting = rest
  announce(first)
  timer = setTimeout(next, pauseMs)
}

function say(sentences: readonly string[]): void {
  waiting = queued(waiting, sentences)
  if (timer === undefined) next()
}

/** One answer as it is spoken. What was there when it came into view was said before, or is read by its reader. */
export class Spoken {
  #upTo: number

  constructor(text: string) {
    this.#upTo = proseOf(text).length
  }

  grew(text: string): void {
    const { said, upTo } = toSay(text, this.#upTo, false)
    this.#upTo = upTo
    if (said.length > 0) say(said)
  }

  /** What had not been said of it, and then how it ended. */
  ended(text: string, ending: string): void {
    say([...toSay(text, this.#upTo, true).said, ending])
  }
}

/** Says how an answer ended and nothing else; what waits to be said is dropped. */
export function sayEnd(ending: string): void {
  waiting = []
  announce(ending)
}
