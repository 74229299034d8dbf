/** Keeps the shell as high as what is visible: where the keyboard covers the page instead of resizing it (iOS). */
export function followViewport(): void {
  const view = window.visualViewport
  if (!view) return
  let isDue = false
  const follow = () => {
    isDue = false
    document.documentElement.style.setProperty('--vvh', `${Math.round(view.height)}px`)
    if (view.offsetTop > 0) scrollTo(0, 0)
  }
  const schedule = () => {
    if (!isDue) requestAnimationFrame(follow)
    isDue = true
  }
  view.addEventListener('resize', schedule)
  view.addEventListener('scroll', schedule)
}

/** A finger rather than a mouse: Enter makes a line, and a field does not take the focus by itself. */
export const isCoarse = () => matchMedia('(pointer: coarse)').matches

/** Says something to screen readers without moving the focus. */
export function announce(text: string, how: 'polite' | 'assertive' = 'polite'): void {
  const region = document.getElementById(how)
  if (region) region.textContent = text
}
