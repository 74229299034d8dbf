/** Entry of the web app: styles, one root of state, one component. */
import './app.css'
import { mount } from 'svelte'
import App from './ui/App.svelte'
import { followViewport } from './ui/viewport.ts'

followViewport()
mount(App, { target: document.getElementById('app')! })

// Keeps the app for a start without a network. Browsers have it on https and on this machine only.
if (import.meta.env.PROD && 'serviceWorker' in navigator) {
  addEventListener('load', () => void navigator.serviceWorker.register('/sw.js').catch(() => undefined))
}
