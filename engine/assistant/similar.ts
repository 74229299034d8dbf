/** Titles that may have been meant: by shared words, then by shared letter triples. Pure; refuses to choose. */

/** The likelier first; with nothing in common (or no hint) the order is kept. */
export function similarTitles<T extends { title: string }>(items: readonly T[], hint: string): T[] {
  const wanted = triples(hint)
  return items
    .map((item, index) => ({ item, index, score: likeness(wanted, triples(item.title)) }))
    .sort((a, b) => b.score - a.score || a.index - b.index)
    .map(scored => scored.item)
}

/** 0 … 1: the part of the smaller set that the other has too. */
function likeness(a: ReadonlySet<string>, b: ReadonlySet<string>): number {
  if (a.size === 0 || b.size === 0) return 0
  let shared = 0
  for (const triple of b) if (a.has(triple)) shared++
  return shared / Math.min(a.size, b.size)
}

function triples(text: string): Set<string> {
  const found = new Set<string>()
  for (const word of text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []) {
    const padded = ` ${word} `
    for (let i = 0; i + 3 <= padded.length; i++) found.add(padded.slice(i, i + 3))
  }
  return found
}
