/** Entry of the web app: styles, one root of state, one component. */
import './app.css'
import { mount } from 'svelte'
import App from './ui/App.svelte'
import { followViewport } from './ui/viewport.ts'

followViewport()
mount(App, { target: document.getElementById('app')! })
