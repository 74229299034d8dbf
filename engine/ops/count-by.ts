/**
 * A counter with one label, cheap enough for each frame: one look-up by the label's value. To a registry of prom-client it is a
 * metric like its own. Its values are few: each is kept for good. Refuses to go down.
 */
import type { Counter, Registry } from 'prom-client'

export class CountBy<L extends string> {
  readonly name: string
  readonly #help: string
  readonly #label: L
  readonly #counts = new Map<string, { value: number }>()

  constructor(options: { name: string; help: string; label: L; registry: Registry }) {
    this.name = options.name
    this.#help = options.help
    this.#label = options.label
    // A registry wants no more of a metric than its name and what it says.
    options.registry.registerMetric(this as unknown as Counter)
  }

  inc(labels: Readonly<Record<L, string>>, by = 1): void {
    if (!(by >= 0 && by < Number.POSITIVE_INFINITY)) throw new TypeError(`${this.name}: cannot be raised by ${by}`)
    const of = labels[this.#label]
    const known = this.#counts.get(of)
    if (known) known.value += by
    else this.#counts.set(of, { value: by })
  }

  /** What one of prom-client says. */
  async get() {
    const values = Array.from(this.#counts, ([of, { value }]) => ({ value, labels: { [this.#label]: of } }))
    const { name } = this
    return { name, help: this.#help, type: 'counter', values, aggregator: 'sum' }
  }
}
