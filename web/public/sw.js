// Keeps the app itself, for a start without a network: its one page and the files that the page names. What people write
// and read never goes through here.
const store = 'parley'
const page = '/app'
const isPage = path => /^\/($|login$|setup-username$|u\/|app$|app\/|chat$|chat\/|join\/)/.test(path)
/** A server that has not answered by then is as good as none; the page finds out by itself when it comes back. */
const patienceMs = 3000

addEventListener('install', event => {
  skipWaiting()
  event.waitUntil(fetch(page).then(keep))
})
addEventListener('activate', event => event.waitUntil(clients.claim()))
addEventListener('fetch', event => {
  const { method, mode, url } = event.request
  const { origin, pathname } = new URL(url)
  if (method !== 'GET' || origin !== location.origin) return
  if (mode === 'navigate') {
    if (isPage(pathname)) event.respondWith(open(event))
  } else if (pathname.startsWith('/assets/')) event.respondWith(asset(event.request))
  else if (isOwn(pathname)) event.respondWith(fetch(event.request).catch(() => kept(pathname)))
})

const isOwn = path => /^\/[\w-]+\.(js|svg|webmanifest)$/.test(path)
const kept = async path => (await (await caches.open(store)).match(path)) ?? Response.error()

/** The server's page, if it comes; else the one that was kept. */
async function open(event) {
  const fresh = fetch(event.request)
  event.waitUntil(fresh.then(answer => keep(answer.clone())).catch(() => {}))
  const late = new Promise(resolve => setTimeout(resolve, patienceMs))
  const answer = await Promise.race([fresh, late]).catch(() => {})
  if (answer && answer.status < 500) return answer
  const old = await kept(page)
  return old.ok ? old : fresh
}

/** Named by its content: what was kept is what the server has. */
async function asset(request) {
  const cache = await caches.open(store)
  const old = await cache.match(request)
  if (old) return old
  const answer = await fetch(request)
  if (answer.ok) void cache.put(request, answer.clone())
  return answer
}

/** The page last, so that one that is kept never names a file that is not. What it no longer names goes. */
async function keep(answer) {
  if (!answer.ok) return
  const cache = await caches.open(store)
  const text = await answer.clone().text()
  const old = await cache.match(page)
  if (old && (await old.text()) === text) return
  const named = [...text.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path)
  await cache.addAll(named)
  await cache.put(page, answer)
  for (const { url } of await cache.keys()) {
    const { pathname } = new URL(url)
    if (pathname !== page && !named.includes(pathname)) await cache.delete(pathname)
  }
}

/** A press on a notification opens its conversation, in a window that is there. */
addEventListener('notificationclick', event => {
  event.notification.close()
  event.waitUntil(go(event.notification.data.open))
})

async function go(path) {
  const [window] = await clients.matchAll({ type: 'window' })
  if (!window) return clients.openWindow(path)
  await window.focus()
  window.postMessage({ open: path })
}
