/** The keys that work everywhere in the app, and what they mean. Decides which; what happens then is Shell.svelte's. */

const isMac = /Mac|iPhone|iPad/.test(navigator.platform)
/** As it is written on the keyboard at hand. */
export const commandKey = isMac ? '⌘' : 'Ctrl'

export type Shortcut =
  | { type: 'palette' | 'help' }
  | { type: 'region'; step: 1 | -1 }
  | { type: 'room'; step: 1 | -1; isUnread: boolean }

export function shortcutOf(event: KeyboardEvent): Shortcut | undefined {
  const { key, altKey, ctrlKey, metaKey, shiftKey } = event
  const isCommand = (isMac ? metaKey : ctrlKey) && !altKey && !shiftKey
  if (isCommand && key.toLowerCase() === 'k') return { type: 'palette' }
  if (isCommand && key === '/') return { type: 'help' }
  if (key === 'F6' && !ctrlKey && !altKey && !metaKey) return { type: 'region', step: shiftKey ? -1 : 1 }
  const step = key === 'ArrowUp' ? -1 : key === 'ArrowDown' ? 1 : undefined
  if (step && altKey && !ctrlKey && !metaKey) return { type: 'room', step, isUnread: shiftKey }
  return undefined
}

/** The parts of the page in the order in which F6 goes through them, each with what in it takes the focus, best first. */
const regions: readonly [part: string, takers: readonly string[]][] = [
  ['.list-pane', ['[aria-current=page]', '.rows a', 'button']],
  ['[role=log]', ['article[tabindex="0"]']],
  ['form.composer', ['textarea']],
  ['.side-pane', ['input', 'button']],
]

/** Gives the focus to the next part of the page that is there. */
export function toRegion(step: 1 | -1): void {
  const there = regions.flatMap(([part, takers]) => {
    const element = document.querySelector<HTMLElement>(part)
    if (!element?.checkVisibility({ visibilityProperty: true })) return []
    const taker = takers.map(one => element.querySelector<HTMLElement>(one)).find(Boolean) ?? element
    return [{ element, taker }]
  })
  const at = there.findIndex(({ element }) => element.contains(document.activeElement))
  const from = at < 0 && step < 0 ? 0 : at
  there.at((from + step) % there.length)?.taker.focus()
}
