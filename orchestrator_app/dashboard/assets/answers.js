// The form of one attention item: what can be said to it, by what it is.

import { h, plain } from "./dom.js"

const FIELDS = ["answer", "why", "feedback", "reason"]
const KEPT = "items" // the draft that lists the items which have drafts

export const draftsOf = (app, id) => FIELDS.map((field) => app.draft(`item-${id}-${field}`))

// Which items somebody has typed something for, with what to call them: {id: {unit, title}}.
export function keptDrafts(app) {
  try { return JSON.parse(app.draft(KEPT).get() || "{}") } catch { return {} }
}

export function keepDraft(app, id, named) {
  const kept = keptDrafts(app)
  if (named ? kept[id] : !(id in kept)) return
  if (named) kept[id] = named
  else delete kept[id]
  app.draft(KEPT).set(Object.keys(kept).length ? JSON.stringify(kept) : "")
}

const short = (words) => { const line = plain(words).trim().split("\n")[0]; return line.length > 80 ? `${line.slice(0, 79)}…` : line }

// What was typed, to be taken elsewhere.
export function copyButton(app, field) {
  return h("button", { onclick: async () => {
    field.select()
    try { await navigator.clipboard.writeText(field.value); app.toast("Copied") } catch { app.toast("Press Ctrl+C: your text is selected") }
  } }, "Copy my text")
}

// `act(kind, args, button)` sends a decision.
export function makeForm(app, id, item, act) {
  const node = h("div", { class: "form" }), fields = new Map()
  const row = (...children) => h("div", { class: "buttons" }, ...children)

  function field(name, props) {
    const draft = app.draft(`item-${id}-${name}`)
    const input = h(props.rows ? "textarea" : "input", props)
    input.value = draft.get()
    input.addEventListener("input", () => {
      draft.set(input.value)
      if (input.value) keepDraft(app, id, { unit: item.unit, title: item.title })
    })
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return
      event.preventDefault()
      sends.get(name)?.click()
    })
    fields.set(name, input)
    return input
  }
  const sends = new Map() // field -> the button that Ctrl+Enter presses in it

  function button(label, kind, args, style = "") {
    const one = h("button", { class: style, onclick: () => { const said = args(); if (said) act(kind, said, one) } }, label)
    return one
  }

  // A button that destroys asks first.
  function danger(label, kind, args, question, words) {
    const one = h("button", { class: "danger", onclick: async () => {
      if (await app.confirm({ title: question, words, action: label, danger: true })) act(kind, args(), one)
    } }, label)
    return one
  }
  const stops = "A running attempt is stopped with all that it started. Branch and worktree stay."
  const cancel = (label) => danger(label, "cancel", () => ({}), `Cancel ${item.unit}?`, stops)

  function required(input) {
    if (input.value.trim()) return input.value
    input.focus()
    return null
  }

  if (item.form === "question") {
    const answer = field("answer", { rows: 2, placeholder: "Your answer", "aria-label": `Answer to ${item.unit}` })
    const options = item.options.map((option) => {
      const one = button(short(option), "answer", () => ({ text: option }))
      one.title = option.length > 80 ? plain(option).slice(0, 1000) : ""
      return one
    })
    if (options.length) node.append(h("div", { class: "buttons options" }, ...options))
    const send = button("Answer", "answer", () => required(answer) && { text: answer.value }, "primary")
    sends.set("answer", send)
    node.append(answer, row(send, h("span", { class: "hint" }, "Ctrl+Enter sends")))
  } else if (item.form === "approval") {
    const why = field("why", { rows: 2, placeholder: "Why not, or what to change (for a rejection)", "aria-label": `Feedback for ${item.unit}` })
    const reject = button("Reject", "reject", () => ({ feedback: why.value }))
    sends.set("why", reject)
    node.append(why, row(button("Approve", "approve", () => ({}), "primary"), reject))
  } else if (item.form === "stall") {
    node.append(row(
      button("Let it wait", "answer", () => ({ text: "wait" }), "primary"),
      danger("Stop and retry", "answer", () => ({ text: "retry" }), `Stop and retry ${item.unit}?`, stops),
      cancel("Cancel")))
  } else if (item.form === "overlap") {
    node.append(row(
      button(`Serialize: after ${item.other}`, "resolve", () => ({ other: item.other, ruling: "serialize" }), "primary"),
      button("Parallelize: both at once", "resolve", () => ({ other: item.other, ruling: "parallelize" })), app.unitLink(item.other)))
  } else if (item.form === "blocked") {
    const reopen = h("button", { class: "primary", onclick: () => app.request("reopen", item.other, {}, reopen) }, `Reopen ${item.other}`)
    node.append(row(reopen, cancel(`Cancel ${item.unit}`), app.unitLink(item.other)))
  } else {
    const phase = h("select", { "aria-label": `From which phase to retry ${item.unit}` },
      ...item.phases.map((name) => h("option", { value: name, selected: name === item.phase }, name === item.phase ? `${name} (this one)` : name)))
    const feedback = field("feedback", { rows: 2, placeholder: "Feedback for the next attempt (optional)", "aria-label": `Feedback for ${item.unit}` })
    const reason = field("reason", { placeholder: "Reason to accept it as done", "aria-label": `Reason to accept ${item.unit}` })
    const retry = button("Retry", "retry",
      () => ({ phase: phase.value === item.phase ? null : phase.value, feedback: feedback.value.trim() || null }), "primary")
    const accept = button("Accept", "accept", () => required(reason) && { reason: reason.value })
    sends.set("feedback", retry).set("reason", accept)
    const from = item.phases.length > 1 ? h("label", { class: "inline" }, "from ", phase) : ""
    node.append(feedback, row(retry, from, reason, accept, cancel("Cancel")))
  }

  return {
    node,
    typed: () => [...fields.values()].some((input) => input.value.trim()),
    // Nothing can be sent any more; what was typed can be read and copied until it is put away.
    close(away) {
      const written = [...fields.values()].filter((input) => input.value.trim())
      for (const input of written) input.readOnly = true
      for (const one of node.querySelectorAll("button, a, label, input, textarea, .hint")) one.hidden = !written.includes(one)
      node.append(row(...written.map((input) => copyButton(app, input)), h("button", { onclick: away }, "Put away")))
    },
    forget() {
      for (const draft of draftsOf(app, id)) draft.clear()
      keepDraft(app, id, null)
    },
  }
}
