// Sets data-theme before the first paint. A file of its own because the page may run no inline script.
;(() => {
  let choice = 'system'
  try {
    choice = localStorage.getItem('parley.theme') || 'system'
  } catch {}
  const says = query => matchMedia(query).matches
  if (choice === 'system') {
    choice = says('(prefers-contrast: more)') ? 'contrast' : says('(prefers-color-scheme: dark)') ? 'dark' : 'light'
  }
  document.documentElement.dataset.theme = choice
})()
