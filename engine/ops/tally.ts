/**
 * A histogram without labels, cheap enough for each message: an observation is a short search and three sums. To a registry of
 * prom-client it is a metric like its own, which make a closure and a text of the labels each time. Refuses what is no number.
 */
import type { Histogram, Registry } from 'prom-client'

export class Tally {
  readonly name: string
  readonly #help: string
  readonly #bounds: Float64Array
  /** By the lowest bound that is not exceeded; what exceeds all is in `#count` only. */
  readonly #counts: Float64Array
  #sum = 0
  #count = 0

  constructor(options: { name: string; help: string; buckets: readonly number[]; registry: Registry }) {
    this.name = options.name
    this.#help = options.help
    this.#bounds = Float64Array.from(options.buckets)
    this.#counts = new Float64Array(this.#bounds.length)
    // A registry wants no more of a metric than its name and what it says.
    options.registry.registerMetric(this as unknown as Histogram)
  }

  observe(value: number): void {
    if (!Number.isFinite(value)) throw new TypeError(`${this.name}: not a number: ${value}`)
    this.#sum += value
    this.#count++
    // From below: most are small, and the bounds are few.
    for (let i = 0; i < this.#bounds.length; i++) {
      if (value > this.#bounds[i]!) continue
      this.#counts[i]!++
      return
    }
  }

  /** What one of prom-client says: from below, each bound with all that it holds. */
  async get() {
    const { name } = this
    let upTo = 0
    const values: { metricName: string; labels: { le?: number | '+Inf' }; value: number }[] = []
    for (const [i, le] of this.#bounds.entries()) {
      values.push({ metricName: `${name}_bucket`, labels: { le }, value: (upTo += this.#counts[i]!) })
    }
    values.push({ metricName: `${name}_bucket`, labels: { le: '+Inf' }, value: this.#count })
    values.push({ metricName: `${name}_sum`, labels: {}, value: this.#sum })
    values.push({ metricName: `${name}_count`, labels: {}, value: this.#count })
    return { name, help: this.#help, type: 'histogram', values, aggregator: 'sum' }
  }
}
