/**
 * Server-sent events out of a response's bytes, as many as have come whole: a token's way is this and a parse. Lines end as
 * the format allows, code points may be split between pieces, comments and unknown fields are skipped.
 * Refuses to know what the data means.
 */

export interface ServerEvent {
  /** '' unless the server named it. */
  name: string
  data: string
}

export class EventStream {
  readonly #decoder = new TextDecoder()
  /** Of the line that has not ended. */
  #line = ''
  #name = ''
  #data: string | undefined
  /** The piece before ended with a carriage return: a line feed that follows belongs to it. */
  #hasReturned = false

  /** The events that these bytes complete, in order. */
  push(bytes: Uint8Array): ServerEvent[] {
    const text = this.#decoder.decode(bytes, { stream: true })
    const events: ServerEvent[] = []
    let from = this.#hasReturned && text.startsWith('\n') ? 1 : 0
    if (text !== '') this.#hasReturned = text.endsWith('\r')
    let feed = text.indexOf('\n', from)
    let turn = text.indexOf('\r', from)
    while (feed >= 0 || turn >= 0) {
      const end = turn < 0 || (feed >= 0 && feed < turn) ? feed : turn
      this.#take(this.#line + text.slice(from, end), events)
      this.#line = ''
      from = end === turn && feed === turn + 1 ? end + 2 : end + 1
      if (feed >= 0 && feed < from) feed = text.indexOf('\n', from)
      if (turn >= 0 && turn < from) turn = text.indexOf('\r', from)
    }
    this.#line += text.slice(from)
    return events
  }

  #take(line: string, events: ServerEvent[]): void {
    if (line === '') {
      if (this.#data !== undefined) events.push({ name: this.#name, data: this.#data })
      this.#name = ''
      this.#data = undefined
      return
    }
    const colon = line.indexOf(':')
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1)
    if (field === 'data') this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`
    else if (field === 'event') this.#name = value
  }
}
