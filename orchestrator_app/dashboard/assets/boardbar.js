// Which units are chosen, and what is done with all of them: one confirmation, then the progress, then what became of it.

import { h, plain, STATUSES, text } from "./dom.js"

const KINDS = {
  retry: { action: "Retry", past: "retried" },
  pause: { action: "Pause", past: "paused", note: "Running attempts are stopped; their sessions are kept." },
  resume: { action: "Resume", past: "resumed" },
  reopen: { action: "Reopen", past: "reopened" },
  cancel: { action: "Cancel", past: "cancelled", danger: true, note: "Running attempts are stopped, with everything they started." },
  edit: { action: "Set the priority of", past: "changed" },
}
const TITLES = new Map(STATUSES.map((status) => [status.name, status.title]))
const NAMED = 10_000

const units = (n) => `${n.toLocaleString()} unit${n === 1 ? "" : "s"}`
const counts = (found) => Object.entries(found).map(([status, n]) => `${n.toLocaleString()} ${TITLES.get(status) ?? status}`).join(", ")
const sum = (found) => Object.values(found).reduce((a, b) => a + b, 0)

// `board`: changed() draws what is chosen, matching() is how many units there are to choose from, reset(name) draws one.
export function makeBar(app, board) {
  let every = false // all that match but `names`; else `names`
  let names = new Set(), asked = 0, busy = null
  const waiting = new Map()

  const said = h("strong", { role: "status" })
  const priority = h("input", { type: "number", class: "number", step: 1, min: -1_000_000, max: 1_000_000, required: true, placeholder: "0", "aria-label": "Priority of the selected units" })
  const button = (kind, label) => h("button", { class: KINDS[kind].danger ? "danger" : "", onclick: () => act(kind) }, label)
  const buttons = [button("retry", "Retry"), button("pause", "Pause"), button("resume", "Resume"), button("reopen", "Reopen"), button("cancel", "Cancel")]
  const set = h("form", { class: "inline", onsubmit: (event) => { event.preventDefault(); if (priority.reportValidity()) act("edit") } },
    h("label", { class: "inline" }, "Priority ", priority), h("button", { type: "submit" }, "Set priority"))
  const actions = h("div", { class: "buttons" }, ...buttons, set)
  const meter = h("progress", { "aria-label": "Progress", max: 1, value: 0 }), under = h("div", { class: "under-way", hidden: true }, meter)
  const none = h("button", { class: "plain", onclick: () => bar.clear() }, "Clear selection")
  const node = h("div", { class: "bulk", role: "region", "aria-label": "Selected units", hidden: true }, said, none, actions, under)

  const bar = {
    node,
    has: (name) => names.has(name) !== every,
    count: () => (every ? Math.max(0, board.matching() - names.size) : names.size),
    choose(some, chosen) {
      for (const name of some) {
        if (chosen !== every) names.add(name)
        else names.delete(name)
      }
      if (names.size > NAMED) {
        names = new Set([...names].slice(0, NAMED))
        app.toast(`At most ${NAMED.toLocaleString()} units can be chosen one by one: filter, and select all that match.`, "error")
      }
      changed()
    },
    range(column, from, to, chosen) {
      ask({ range: [column, from, to] }).then((answer) => bar.choose(answer.range.length ? answer.range : [to], chosen))
    },
    selectAll() {
      every = true
      names = new Set()
      changed()
    },
    clear() {
      every = false
      names = new Set()
      changed()
    },
    told(message) {
      if ("progress" in message) return progress(message)
      if ("acted" in message) return acted(message.acted)
      waiting.get(message.id)?.(message)
      waiting.delete(message.id)
    },
  }

  function ask(message) {
    const id = ++asked
    return new Promise((resolve) => {
      waiting.set(id, resolve)
      app.say({ ...message, id })
    })
  }

  function changed() {
    draw()
    board.changed()
  }

  function draw() {
    const n = bar.count()
    node.hidden = n === 0 && !busy
    text(said, busy ?? `${units(n)} selected`)
    actions.hidden = none.hidden = Boolean(busy)
    under.hidden = !busy
  }

  async function act(kind) {
    const said = KINDS[kind], args = kind === "edit" ? { priority: Number(priority.value) } : {}
    const chosen = every ? { all: true, but: [...names] } : { names: [...names] }
    const answer = await ask({ weigh: kind, units: chosen, args })
    if (!answer.weighed) return app.toast(answer.why, "error")
    const { able, others } = answer.weighed, n = sum(able)
    if (!n) return app.toast(`None of these can be ${said.past}: ${counts(others)}.`, "error")
    const title = kind === "edit" ? `Set the priority of ${units(n)} to ${args.priority}?` : `${said.action} ${units(n)}?`
    const note = said.note && able.RUNNING ? said.note : ""
    const left = sum(others) ? `${counts(others)}: left as ${sum(others) === 1 ? "it is" : "they are"}.` : ""
    const words = h("div", { class: "question" }, ...[`${counts(able)}.`, note, left].filter(Boolean).map((one) => h("p", {}, one)))
    const agreed = await app.confirm({ title, words, action: kind === "edit" ? "Set priority" : `${said.action} ${units(n)}`, danger: said.danger })
    if (!agreed) return
    app.say({ act: answer.id })
    progress({ progress: 0, total: answer.weighed.total })
  }

  function progress({ progress: done, total }) {
    meter.value = total ? done / total : 0
    busy = `${done.toLocaleString()} of ${total.toLocaleString()}`
    draw()
  }

  function acted({ kind, done, failed, refused }) {
    busy = null
    bar.clear()
    const why = refused.slice(0, 3).map((one) => `${one.name}: ${plain(one.why)}`).join("; ")
    const rest = failed > 3 ? `; and ${(failed - 3).toLocaleString()} more` : ""
    app.toast(`${units(done)} ${KINDS[kind].past}${failed ? `, ${failed.toLocaleString()} not. ${why}${rest}` : ""}`, failed ? "error" : "info")
  }

  return bar
}
