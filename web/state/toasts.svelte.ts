/** Short sentences about outcomes that have no place on screen. Each goes by itself; the oldest makes room. */
import { reasonOf, t } from '../i18n/t.ts'
import type { ApiFailure } from '../wire/api.ts'

const shownMs = 5000
const shownMax = 3

export class Toasts {
  items: readonly { id: number; text: string }[] = $state.raw([])
  #last = 0

  say(text: string): void {
    const id = ++this.#last
    this.items = [...this.items.slice(1 - shownMax), { id, text }]
    setTimeout(() => (this.items = this.items.filter(item => item.id !== id)), shownMs)
  }

  failed({ code }: ApiFailure): void {
    this.say(`${t('find.failed', { reason: reasonOf(code) })}.`)
  }
}
