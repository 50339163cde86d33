// What was typed for items that were settled before this page was loaded: it stays, to be read and copied, until it is
// put away.

import { clock, h, plain } from "./dom.js"
import { copyButton, draftsOf, keepDraft, keptDrafts } from "./answers.js"

export function makeLeftovers(app, unit, linked) {
  const node = h("div", { class: "leftovers" }), shown = new Map()
  let begun = false

  const forget = (id) => {
    for (const draft of draftsOf(app, id)) draft.clear()
    keepDraft(app, id, null)
  }

  function add(id, named, info, typed) {
    const box = h("textarea", { readOnly: true, rows: Math.min(6, typed.join("\n").split("\n").length + 1), "aria-label": `What you had typed for ${named.unit}` })
    box.value = typed.join("\n\n")
    const away = h("button", { onclick: () => { card.remove(); shown.delete(id); forget(id) } }, "Put away")
    const card = h("article", { class: "item is-settled", "aria-label": `Settled: ${named.title}`, "data-item": id },
      h("header", {}, h("span", { class: "badge" }, "Settled"), h("strong", {}, plain(named.title))),
      h("div", { class: "meta" }, app.unitLink(named.unit), info.at ? h("span", {}, clock(info.at)) : null),
      h("p", { class: "note", role: "status" }, ...linked(info.words)),
      h("p", { class: "hint" }, "You had typed:"), box, h("div", { class: "buttons" }, copyButton(app, box), away))
    shown.get(id)?.remove()
    shown.set(id, card)
    node.append(card)
  }

  return {
    node,
    some: () => shown.size > 0,
    // Once the queue is known: what became of items that had drafts when the page was loaded anew.
    begin(items) {
      if (begun) return
      begun = true
      const ids = Object.entries(keptDrafts(app)).filter(([id, named]) => !items.has(Number(id)) && (unit === null || named.unit === unit))
      if (ids.length) app.say({ queue: "left", ids: ids.map(([id]) => Number(id)) })
    },
    // An item that has no card here was settled: show what was typed for it before, if anything was.
    settled(id, info) {
      const named = keptDrafts(app)[id], typed = draftsOf(app, id).map((draft) => draft.get()).filter((value) => value.trim())
      if (named && typed.length) add(id, named, info, typed)
      else forget(id)
    },
  }
}
