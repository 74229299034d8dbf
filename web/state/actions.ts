/** What the palette offers: everything that can be done from anywhere, and which of it fits what was typed. Pure. */

export interface Entry {
  id: string
  words: string
  /** Whom or what it is about, where a picture stands before it. */
  avatar?: { id: string; name: string; icon?: 'spark' | 'hash' }
  icon?: 'user' | 'people' | 'spark' | 'tasks' | 'gear' | 'out' | 'keys'
  hint?: string
  act: () => void
}

const matchesMax = 8

const plain = (text: string) => text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase()

/** Those in which every word begins a word, best first: a hit at the beginning before one in the middle. */
export function matching(entries: readonly Entry[], query: string): Entry[] {
  const wanted = plain(query).split(/\s+/).filter(Boolean)
  if (wanted.length === 0) return entries.slice(0, matchesMax)
  const ranked = entries.flatMap(entry => {
    const text = plain(entry.words)
    const begins = (word: string) => text.startsWith(word) || text.includes(` ${word}`)
    return wanted.every(begins) ? [{ entry, rank: text.startsWith(wanted[0]!) ? 0 : 1 }] : []
  })
  return ranked
    .sort((a, b) => a.rank - b.rank)
    .slice(0, matchesMax)
    .map(({ entry }) => entry)
}
