// What can be done with a unit now, and the dialog in which it is changed.

import { h, plain, text } from "./dom.js"

const ACTS = [
  { kind: "pause", label: "Pause", when: (can) => can.has("pause") },
  { kind: "resume", label: "Resume", style: "primary", when: (can) => can.has("resume") },
  { kind: "retry", label: "Retry", when: (can) => can.has("retry") },
  { kind: "restart", label: "Restart", when: (can, facts) => facts.status === "RUNNING", title: "Restart the running attempt?", action: "Restart it",
    words: "The attempt that runs is stopped and its phase starts again, with its session. Its files stay." },
  { kind: "reopen", label: "Reopen", style: "primary", when: (can) => can.has("reopen") },
  { kind: "accept", label: "Accept as done…", when: (can) => can.has("accept"), reason: true, title: "Accept as done?", action: "Accept",
    words: "It counts as done from now on, and the units that wait for it go on. Nothing is merged." },
  { kind: "cancel", label: "Cancel the unit…", style: "danger", when: (can) => can.has("cancel"), title: "Cancel this unit?", action: "Cancel the unit", danger: true,
    words: "A running attempt is killed with all that it started. The branch and its worktree stay; the unit can be reopened." },
]

export function makeActions(app, name, facts, edit) {
  const node = h("div", { class: "buttons actions", role: "group", "aria-label": "Actions" })
  const buttons = new Map(ACTS.map((act) => [act.kind, h("button", { class: act.style ?? "", hidden: true, onclick: () => run(act) }, act.label)]))
  const change = h("button", { class: "quiet", hidden: true, onclick: edit }, "Edit…")
  node.append(...buttons.values(), change)

  async function run(act) {
    const button = buttons.get(act.kind)
    if (act.reason) return askReason(app, name, act)
    if (act.title && !await app.confirm({ title: act.title, words: `${name}: ${act.words}`, action: act.action, danger: act.danger })) return
    app.request(act.kind, name, {}, button)
  }

  return {
    node,
    apply(now) {
      const can = new Set(now.possible)
      for (const act of ACTS) buttons.get(act.kind).hidden = !act.when(can, now)
      change.hidden = !can.has("edit")
    },
  }
}

function askReason(app, name, act) {
  const draft = app.draft(`${act.kind}-${name}`)
  const field = h("input", { required: true, "aria-label": "Reason", placeholder: "Why? It goes into the log", value: draft.get(), oninput: () => draft.set(field.value) })
  const yes = h("button", { type: "submit", class: "primary" }, act.action)
  const form = h("form", { class: "form", onsubmit: async (event) => {
    event.preventDefault()
    if (!field.value.trim()) return field.reportValidity()
    const { ok } = await app.request(act.kind, name, { reason: field.value }, yes)
    if (!ok) return
    draft.clear()
    close()
  } }, h("p", { class: "question" }, `${name}: ${act.words}`), field, h("div", { class: "buttons end" }, h("button", { type: "button", onclick: () => close() }, "Back"), yes))
  const close = app.dialog(act.title, form)
  field.focus()
}

const list = (value) => value.split(/[\s,]+/).filter(Boolean)
const FIELDS = [
  { key: "prompt", label: "What is asked", rows: 7, show: (facts) => facts.prompt, read: (value) => value },
  { key: "priority", label: "Priority (higher starts first)", type: "number", show: (facts) => String(facts.priority), read: (value) => Number(value || 0) },
  { key: "labels", label: "Labels", hint: "separated by spaces", show: (facts) => facts.labels.join(" "), read: list },
  { key: "after", label: "After (units it waits for)", hint: "separated by spaces", show: (facts) => facts.after.join(" "), read: list },
  { key: "touches", label: "Touches (files it will change)", hint: "patterns as src/**, one a line", rows: 2, show: (facts) => facts.touches.join("\n"),
    read: (value) => value.split("\n").map((line) => line.trim()).filter(Boolean) },
  { key: "agent", label: "Agent", show: (facts) => facts.agent ?? "", read: (value) => value || null },
]

// Sends only what was changed here, with the version that was seen when the dialog opened. If somebody else was
// first, what they changed is shown beside what was typed, and the next press says: over that.
export function editUnit(app, name, facts) {
  let seen = { ...facts() }
  const draft = app.draft(`edit-${name}`)
  const typed = (() => { try { return JSON.parse(draft.get() || "{}") } catch { return {} } })()
  const inputs = new Map(), marks = new Map()
  const note = h("p", { class: "note edit-note", role: "alert", hidden: true })
  for (const field of FIELDS) {
    const props = { "aria-label": field.label, placeholder: field.hint ?? "", oninput: keep }
    const input = field.key === "agent" ? h("select", props, h("option", { value: "" }, "as the phases say"), ...seen.agents.map((one) => h("option", { value: one }, one)))
      : h(field.rows ? "textarea" : "input", { ...props, ...(field.rows ? { rows: field.rows } : { type: field.type ?? "text" }) })
    input.value = typed[field.key] ?? field.show(seen)
    inputs.set(field.key, input)
    marks.set(field.key, h("div", { class: "hint theirs", hidden: true }))
  }
  const save = h("button", { type: "submit", class: "primary" }, "Save")
  const form = h("form", { class: "form edit", onsubmit: send }, note,
    ...FIELDS.map((field) => h("label", { class: "field" }, h("span", {}, field.label), inputs.get(field.key), marks.get(field.key))),
    h("div", { class: "buttons end" }, h("button", { type: "button", onclick: () => { draft.clear(); close() } }, "Discard"), save))
  const close = app.dialog(`Edit ${name}`, form, { wide: true })
  inputs.get("prompt").focus()

  function changed() {
    return FIELDS.filter((field) => inputs.get(field.key).value !== field.show(seen))
  }

  function keep() {
    const values = Object.fromEntries(changed().map((field) => [field.key, inputs.get(field.key).value]))
    draft.set(Object.keys(values).length ? JSON.stringify(values) : "")
  }

  async function send(event) {
    event.preventDefault()
    const mine = changed()
    if (!mine.length) return close()
    const set = Object.fromEntries(mine.map((field) => [field.key, field.read(inputs.get(field.key).value)]))
    const { ok, text: words } = await app.request("edit", name, { set }, save, seen.version)
    if (ok) {
      draft.clear()
      return close()
    }
    note.hidden = false
    text(note, plain(words))
    const fresh = facts()
    if (fresh.version === seen.version) return
    for (const field of FIELDS) {
      const theirs = field.show(fresh), input = inputs.get(field.key), mark = marks.get(field.key)
      const differs = theirs !== field.show(seen)
      if (differs && !mine.includes(field)) input.value = theirs
      mark.hidden = !differs
      text(mark, mine.includes(field) ? `It is now: ${plain(theirs) || "(empty)"}` : "Changed meanwhile; the new value is shown")
    }
    seen = { ...fresh }
    text(save, "Save over that")
    keep()
  }
}
