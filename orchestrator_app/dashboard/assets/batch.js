// Many items chosen, one answer for all that it fits.

import { h, text } from "./dom.js"

const FORMS = {
  question: ["question", "questions"], approval: ["approval", "approvals"], failure: ["failure", "failures"],
  stall: ["silent agent", "silent agents"], overlap: ["overlap", "overlaps"], blocked: ["blocked unit", "blocked units"],
}
const counted = (form, n) => `${n.toLocaleString()} ${FORMS[form][n === 1 ? 0 : 1]}`

// `changed` is called when another set is chosen.
export function makeBatch(app, changed) {
  const chosen = new Map(), waiting = new Map() // item -> its form; number of a batch -> what to do when it is done
  let asked = 0, state = { total: 0, forms: {} }

  const kinds = new Map(Object.keys(FORMS).map((form) => [form, h("button", { class: "quiet", onclick: () => choose(form) })]))
  const every = h("button", { class: "quiet", onclick: () => choose(null) })
  const clear = h("button", { class: "quiet", onclick: () => { chosen.clear(); update() } }, "Select none")
  const said = h("strong", { role: "status" })
  const words = h("textarea", { rows: 2, "aria-label": "One answer for all that are selected", oninput: () => draft.set(words.value) })
  const draft = app.draft("batch")
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return
    event.preventDefault()
    ;[answer, reject].find((one) => !one.hidden)?.click()
  })

  const act = (kind, forms, args, ask, style = "") => {
    const button = h("button", { class: style, onclick: async () => {
      const ids = of(forms), given = args()
      if (!given) return words.focus()
      const confirmed = ask?.(ids.length)
      if (confirmed && !(await app.confirm({ ...confirmed, danger: true }))) return
      send(kind, ids, given, button)
    } })
    return button
  }
  const given = (name) => () => (words.value.trim() ? { [name]: words.value } : null)
  const optional = (name) => () => (words.value.trim() ? { [name]: words.value } : {})
  const stops = "Running attempts are stopped with all that they started. Branches and worktrees stay."
  const answer = act("answer", ["question"], given("text"), null, "primary")
  const approve = act("approve", ["approval"], () => ({}), null, "primary")
  const reject = act("reject", ["approval"], optional("feedback"))
  const retry = act("retry", ["failure", "stall"], optional("feedback"),
    () => of(["stall"]).length ? { title: `Stop and retry ${counted("stall", of(["stall"]).length)}?`, words: stops, action: "Stop and retry" } : null)
  const aside = act("see", Object.keys(FORMS), () => ({}))
  const cancel = act("cancel", Object.keys(FORMS), () => ({}),
    (n) => ({ title: `Cancel ${n === 1 ? "1 unit" : `the units of ${n.toLocaleString()} items`}?`, words: stops, action: `Cancel ${n.toLocaleString()}` }), "danger")
  const actions = h("div", { class: "form chosen", hidden: true }, h("div", { class: "buttons" }, said, clear), words,
    h("div", { class: "buttons" }, answer, approve, reject, retry, aside, cancel))
  const choices = h("div", { class: "buttons choices", role: "group", "aria-label": "Select many items" }, h("span", { class: "hint" }, "Select"), every, ...kinds.values())
  const node = h("div", { class: "batch", hidden: true }, choices, actions)

  const of = (forms) => [...chosen].filter(([, form]) => forms.includes(form)).map(([id]) => id)

  const choose = (form) => app.say({ queue: "choose", form })

  function send(kind, ids, args, button) {
    const id = ++asked
    button.disabled = true
    waiting.set(id, ({ done, refused, why }) => {
      button.disabled = false
      if (done) app.toast(`${done.toLocaleString()} of ${ids.length.toLocaleString()} done`)
      if (refused) app.toast(`${refused.toLocaleString()} refused: ${why.join("; ")}`, "error")
    })
    app.say({ queue: "all", id, kind, ids, args })
    for (const one of ids) chosen.delete(one)
    if ("text" in args || "feedback" in args) { words.value = ""; draft.clear() }
    update()
  }

  function update() {
    changed()
    draw(state)
  }

  function label(button, does, forms) {
    const n = of(forms).length
    button.hidden = n === 0
    text(button, `${does} ${forms.length === 1 ? counted(forms[0], n) : n.toLocaleString()}`)
  }

  function draw(now) {
    state = now
    words.value ||= draft.get()
    node.hidden = state.total < 2 && !chosen.size
    text(every, `all ${state.total.toLocaleString()}`)
    for (const [form, button] of kinds) {
      const n = state.forms[form] ?? 0
      button.hidden = !n || n === state.total
      text(button, counted(form, n))
    }
    actions.hidden = !chosen.size
    text(said, `${chosen.size.toLocaleString()} selected`)
    label(answer, "Answer", ["question"])
    label(approve, "Approve", ["approval"])
    label(reject, "Reject", ["approval"])
    label(retry, "Retry", ["failure", "stall"])
    label(aside, "Dismiss", Object.keys(FORMS))
    label(cancel, "Cancel", Object.keys(FORMS))
    words.hidden = [answer, reject, retry].every((one) => one.hidden)
    words.placeholder = !answer.hidden ? "One answer for every selected question" : "Feedback for every one (optional)"
  }

  return {
    node, draw,
    has: (id) => chosen.has(id),
    set(id, form, on) {
      if (on === chosen.has(id)) return
      if (on) chosen.set(id, form)
      else chosen.delete(id)
      draw(state)
    },
    told(message) {
      if (message.chosen) {
        for (const [id, form] of Object.entries(message.chosen)) chosen.set(Number(id), form)
        update()
      } else if ("all" in message) {
        waiting.get(message.all)?.(message)
        waiting.delete(message.all)
      }
    },
  }
}
