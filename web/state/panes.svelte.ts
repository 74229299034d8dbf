/** How wide the window is and whether the tasks stand beside a conversation with the assistant: a choice kept per browser. */
const key = 'parley.tasks'
/** As in Shell.svelte: three columns fit from here on. */
const wide = '(width >= 1100px)'
/** And below here one. */
const narrow = '(width < 640px)'

export class Panes {
  isWide: boolean = $state(matchMedia(wide).matches)
  isNarrow: boolean = $state(matchMedia(narrow).matches)
  #wantsTasks: boolean = $state(localStorage.getItem(key) !== 'closed')

  constructor() {
    matchMedia(wide).addEventListener('change', event => (this.isWide = event.matches))
    matchMedia(narrow).addEventListener('change', event => (this.isNarrow = event.matches))
  }

  readonly showsTasks = $derived.by(() => this.isWide && this.#wantsTasks)

  keepTasks(isOpen: boolean): void {
    this.#wantsTasks = isOpen
    if (isOpen) localStorage.removeItem(key)
    else localStorage.setItem(key, 'closed')
  }
}
