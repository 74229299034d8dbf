/** Where messages stand in the log: which one an event is about, which one is in view, whether one is seen to its edge. */

/** The message that has the focus, or in which something has it. */
export function rowOf(target: EventTarget | null): HTMLElement | undefined {
  return target instanceof Element ? (target.closest<HTMLElement>('article[data-key]') ?? undefined) : undefined
}

/** The lowest message of which something is in view; where it stands in the document says nothing about that. */
export function rowAt(log: HTMLElement): HTMLElement | undefined {
  const { bottom } = log.getBoundingClientRect()
  const topOf = (row: HTMLElement) => row.getBoundingClientRect().top
  const above = [...log.querySelectorAll<HTMLElement>('article[data-key]')].filter(row => topOf(row) < bottom)
  return above.sort((a, b) => topOf(a) - topOf(b)).at(-1)
}

/** Whether its edge on that side is in view: a message taller than the log is scrolled before it is left. */
export function fits(row: HTMLElement, log: HTMLElement, step: 1 | -1): boolean {
  const [inner, outer] = [row.getBoundingClientRect(), log.getBoundingClientRect()]
  return step < 0 ? inner.top >= outer.top - 1 : inner.bottom <= outer.bottom + 1
}
