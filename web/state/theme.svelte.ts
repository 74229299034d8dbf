/** The chosen theme: kept in this browser, applied to the root element; the first paint's is set by /theme.js. */
export const themes = ['system', 'light', 'dark', 'contrast'] as const
export type ThemeChoice = (typeof themes)[number]

const key = 'parley.theme'

export class Theme {
  choice: ThemeChoice = $state(stored())

  constructor() {
    for (const query of ['(prefers-color-scheme: dark)', '(prefers-contrast: more)']) {
      matchMedia(query).addEventListener('change', () => this.#apply())
    }
  }

  choose(choice: ThemeChoice): void {
    this.choice = choice
    localStorage.setItem(key, choice)
    this.#apply()
  }

  #apply(): void {
    const says = (query: string) => matchMedia(query).matches
    const system = says('(prefers-contrast: more)')
      ? 'contrast'
      : says('(prefers-color-scheme: dark)')
        ? 'dark'
        : 'light'
    document.documentElement.dataset['theme'] = this.choice === 'system' ? system : this.choice
  }
}

function stored(): ThemeChoice {
  const value = localStorage.getItem(key)
  return themes.find(t => t === value) ?? 'system'
}
