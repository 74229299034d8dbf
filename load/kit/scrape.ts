/** One process's /metrics as numbers by name with its labels. Refuses to add up what has labels: `sumOf` does when asked. */

export type Scraped = ReadonlyMap<string, number>

/** `adminUrl`: of the internal listener, http://host:port. */
export async function scrape(adminUrl: string): Promise<Scraped> {
  const response = await fetch(`${adminUrl}/metrics`, { signal: AbortSignal.timeout(3000) })
  const out = new Map<string, number>()
  for (const line of (await response.text()).split('\n')) {
    const [, name, value] = /^([a-z_]+(?:\{[^}]*\})?) (\S+)$/.exec(line) ?? []
    if (name) out.set(name, Number(value))
  }
  return out
}

/** Over all labels of one metric; NaN when it is not on the page. */
export function sumOf(page: Scraped, name: string): number {
  let sum = Number.NaN
  for (const [key, value] of page)
    if (key === name || key.startsWith(`${name}{`)) sum = (Number.isNaN(sum) ? 0 : sum) + value
  return sum
}
