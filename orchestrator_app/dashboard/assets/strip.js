// The header strip: connection, what waits for a person, slots, dispatch, and who sits here.

import { clock, h, text } from "./dom.js"
import { makeBell } from "./notify.js"

const OPERATOR = "orch-operator"

export function makeStrip(app) {
  const dot = h("span", { class: "dot" }), words = h("span", {}, "connecting")
  const connection = h("span", { class: "chip connection", title: "Connection to the server" }, dot, words)
  const attention = app.link("overview", {})
  attention.className = "chip attention"
  attention.setAttribute("aria-live", "polite")
  const slots = app.link("sessions", {})
  slots.className = "chip"
  slots.title = "Units running, of the slots there are"
  const done = h("span", { class: "chip", title: "Units that are done" })
  const you = h("button", { class: "quiet", title: "The name under which your answers and actions stand in the log", onclick: rename })
  const bell = makeBell(app)
  const looking = h("span", { class: "chip", hidden: true, title: "You may look at everything here and change nothing: ask an operator" }, "View only")
  const pause = h("button", { class: "quiet acts", onclick: () => app.request("dispatch", null, { paused: !app.head.paused }, pause) })
  const fault = h("div", { class: "banner", role: "alert", hidden: true })
  const broken = h("div", { class: "banner", role: "alert", hidden: true })
  const stale = h("div", { class: "banner stale", role: "status", hidden: true })
  const node = h("header", { class: "head" },
    h("div", { class: "strip" }, connection, attention, slots, done, h("span", { class: "gap" }), bell.node, looking, you, pause), fault, broken, stale)

  async function leave() {
    const reply = await fetch("/logout", { method: "POST" }).catch(() => null)
    if (reply?.ok) location.href = "/login"
    else app.toast("The server did not answer: you are still signed in", "error")
  }

  let naming = false, named = false // named: the name is not for choosing
  function rename() {
    const out = h("button", { type: "button", onclick: leave }, "Sign out")
    if (named) return app.dialog("You", h("div", { class: "form" }, h("p", { class: "question" }, you.title), h("div", { class: "buttons end" }, out)))
    const input = h("input", { value: app.operator, maxLength: 64, "aria-label": "Your name", pattern: "[A-Za-z0-9][A-Za-z0-9._@\\-]*", required: true })
    const close = app.dialog("Who are you?", h("form", { class: "form", onsubmit: (event) => {
      event.preventDefault()
      naming = true
      app.send({ type: "operator", name: input.value })
      close()
    } }, h("p", { class: "hint" }, "Your answers and actions stand in the log under this name: letters, digits, . _ @ -"), input,
    h("div", { class: "buttons end" }, out, h("button", { type: "submit", class: "primary" }, "Keep"))))
    input.select()
  }

  return {
    node,
    connection({ live, latency, lastHeard }) {
      dot.className = `dot ${live ? "live" : "gone"}`
      text(words, live ? (latency === null ? "live" : `live · ${Math.max(1, Math.round(latency * 1000))} ms`) : "reconnecting")
      stale.hidden = live
      if (!live) text(stale, `The connection is lost. What you see is from ${clock(lastHeard)}; it comes back by itself, and what you typed stays.`)
    },
    head(head) {
      const n = head.attention
      text(attention, n ? `! ${n} need${n === 1 ? "s" : ""} attention` : "Nothing needs attention")
      attention.classList.toggle("some", n > 0)
      text(slots, `${head.running} of ${head.slots} slots`)
      text(done, `${head.counts.DONE} done`)
      text(pause, head.paused ? "Resume dispatch" : "Pause dispatch")
      pause.classList.toggle("on", head.paused)
      pause.title = head.paused ? "Nothing new is started" : "Start nothing new; what runs goes on"
      fault.hidden = head.state === "ok"
      text(fault, head.state === "ok" ? "" : head.state)
    },
    announce: (fresh) => bell.head(app.head, fresh),
    // What keeps the open page from being brought up to date.
    fault(words) {
      broken.hidden = !words
      text(broken, words)
    },
    operator({ operator: name, refused, proven, viewer }) {
      if (viewer !== undefined) {
        looking.hidden = !viewer
        named = proven || viewer
        if (named) you.title = viewer ? "You look at everything here and change nothing" : `You signed in as ${name}: your answers and actions stand in the log under this name`
      }
      text(you, `You: ${named && !proven ? "a viewer" : name}`)
      if (refused) app.toast("That can't be a name: letters, digits, . _ @ - and at most 64 of them", "error")
      else if (naming) localStorage.setItem(OPERATOR, name)
      naming = false
    },
    chosenOperator: () => localStorage.getItem(OPERATOR),
    end: () => bell.end(),
  }
}
