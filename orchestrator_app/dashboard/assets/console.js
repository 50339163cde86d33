// The browser's half of the console: connection, header strip, navigation, requests, and one page at a time.
// Frames change what is keyed; nothing is drawn anew, so focus, scroll position and half-typed text stay.

import { h, text } from "./dom.js"
import { makeConfirm, makeDrafts, makeToasts } from "./dialogs.js"
import { makeConnection } from "./connection.js"
import { makeRequests } from "./requests.js"
import { makeStrip } from "./strip.js"

const PAGES = [
  ["overview", "Overview"], ["board", "Board"], ["timeline", "Timeline"], ["graph", "Graph"], ["sessions", "Sessions"],
  ["events", "Events"], ["errors", "Errors"], ["settings", "Settings"],
]
const TITLES = new Map([...PAGES, ["unit", "Unit"]])

// The page and its arguments that an address asks for. `?unit=NAME` alone is the page of that unit.
function asked() {
  const { page, ...args } = Object.fromEntries(new URLSearchParams(location.search))
  return { page: page ?? (args.unit ? "unit" : "overview"), args }
}

function address(page, args) {
  const query = new URLSearchParams()
  if (page !== "overview" && page !== "unit") query.set("page", page)
  for (const [name, value] of Object.entries(args)) if (value !== "" && value !== null && value !== undefined) query.set(name, value)
  const said = query.toString()
  return said ? `?${said}` : location.pathname
}

export function start({ model, el }) {
  let opened = 0, screen = null, current = asked()

  const send = (message) => { try { model.send_msg(message) } catch { /* the connection is gone; the strip says so */ } }
  const toasts = makeToasts()
  const requests = makeRequests({ send, toast: toasts.show })
  const dialogs = makeConfirm()
  const main = h("main", { class: "screen" })
  const links = new Map(PAGES.map(([page, title]) => [page, link(page, {}, title)]))
  const nav = h("nav", { class: "pages", "aria-label": "Pages" }, ...links.values())

  function link(page, args, ...children) {
    return h("a", { href: address(page, args), onclick: (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return
      event.preventDefault()
      show(page, args)
    } }, ...children)
  }

  function show(page, args = {}) {
    const wanted = address(page, args)
    if (wanted !== address(current.page, current.args)) history.pushState(null, "", wanted)
    open(page, args)
    main.focus({ preventScroll: true })
    root.scrollIntoView({ block: "start" })
  }

  const app = {
    head: null,
    operator: "",
    viewer: false, // may look and change nothing; the server sees to it, too
    link,
    show,
    unitLink: (name) => {
      const node = link("unit", { unit: name }, name)
      node.className = "unit-link"
      return node
    },
    // Other arguments of the page that is open, without opening it anew.
    keep(args) {
      current = { page: current.page, args }
      history.replaceState(null, "", address(current.page, args))
    },
    say: (message) => send({ type: "say", n: opened, message }),
    // Settles with what became of it; a refusal is also shown.
    request(kind, unit, args = {}, button = null, version = null) {
      if (button) button.disabled = true
      return requests.ask({ kind, unit, args: version === null ? args : { ...args, version } }, (outcome) => {
        if (button) button.disabled = false
        if (!outcome.ok) toasts.show(outcome.text, "error")
      })
    },
    toast: toasts.show,
    confirm: dialogs.ask,
    dialog: dialogs.open,
    draft: makeDrafts(() => app.head?.project ?? ""),
    send,
  }

  const strip = makeStrip(app)
  const connection = makeConnection({ send, changed: strip.connection, back: requests.sendAgain })

  function open(page, args) {
    current = { page, args }
    const number = ++opened
    screen?.close?.()
    screen = null
    for (const [name, node] of links) node.setAttribute("aria-current", name === page ? "page" : "false")
    title()
    main.setAttribute("aria-label", TITLES.get(page) ?? "Page")
    main.replaceChildren(h("p", { class: "hint loading", role: "status" }, "Loading…"))
    if (!TITLES.has(page)) return nowhere()
    import(`./${page}.js`).then((module) => {
      if (number !== opened) return
      screen = module.default(app, args)
      main.replaceChildren(screen.node)
      if (app.head) screen.head?.(app.head)
      send({ type: "open", page, args, n: number })
    }).catch((error) => {
      console.error(error)
      if (number === opened) main.replaceChildren(h("p", { class: "banner", role: "alert" }, "This page could not be loaded: reload it."))
    })
  }

  function nowhere() {
    main.replaceChildren(h("p", { class: "hint" }, "There is no such page. ", link("overview", {}, "Go to the overview")))
  }

  function title() {
    const waits = app.head?.attention ?? 0
    const place = current.page === "unit" ? current.args.unit : TITLES.get(current.page)
    document.title = `${waits ? `(${waits}) ` : ""}${place ?? "Orchestrator"} · ${app.head?.project ?? "Orchestrator"}`
  }

  function apply(frame) {
    if (frame.head) {
      app.head = frame.head
      strip.head(frame.head)
      screen?.head?.(frame.head)
      title()
    }
    if (frame.new) strip.announce(frame.new)
    if (frame.n === opened && screen && "screen" in frame) {
      screen.frame(frame.screen)
      connection.drawn()
    }
    strip.fault(frame.fault)
    root.dataset.seq = frame.seq
    acknowledge(frame.frame)
  }

  // The next frame may come when this one is on the screen, so that none is applied that nobody sees. A page that is
  // hidden draws nothing: it says so at once, and so hears soon of what it may have to announce.
  function acknowledge(number) {
    if (document.hidden) return send({ type: "ack", frame: number })
    const done = () => {
      clearTimeout(late)
      cancelAnimationFrame(next)
      send({ type: "ack", frame: number })
    }
    const late = setTimeout(done, 1000) // it was hidden just now
    const next = requestAnimationFrame(done)
  }

  function known(message) {
    app.operator = message.operator
    if ("viewer" in message) {
      app.viewer = message.viewer
      root.toggleAttribute("data-viewer", message.viewer)
    }
    strip.operator(message)
  }

  const onPop = () => { const { page, args } = asked(); open(page, args) }
  window.addEventListener("popstate", onPop)

  model.on("msg:custom", (event) => {
    const message = event.data ?? event
    connection.heard()
    if ("frame" in message) apply(message)
    else if ("pong" in message) connection.pong(message.latency)
    else if ("done" in message) requests.answered(message)
    else if ("told" in message) { if (message.n === opened) screen?.told?.(message.told) }
    else if ("operator" in message) known(message)
    else if (message.nowhere && message.n === opened) nowhere()
  })

  const ticking = setInterval(() => screen?.tick?.(Date.now()), 1000)
  main.tabIndex = -1
  const root = h("div", { class: "console" }, nav, strip.node, main, toasts.node, dialogs.node)
  const theme = () => { root.dataset.theme = model.dark ? "dark" : "light" }
  theme()
  model.on("dark", () => { theme(); document.cookie = `orch-dark=${model.dark ? "yes" : "no"}; path=/; max-age=31536000; SameSite=Strict` })
  model.on("remove", () => {
    clearInterval(ticking)
    connection.end()
    strip.end()
    screen?.close?.()
    window.removeEventListener("popstate", onPop)
  })
  el.append(root)
  send({ type: "hello", operator: strip.chosenOperator() })
  requests.sendAgain()
  open(current.page, current.args)
}
