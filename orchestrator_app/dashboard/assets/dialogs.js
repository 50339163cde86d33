// What speaks up over the page: toasts, dialogs, and the drafts that outlive a reload.

import { h, text } from "./dom.js"

export function makeToasts() {
  const node = h("div", { class: "toasts" })
  function show(words, kind = "info") {
    const toast = h("div", { class: `toast is-${kind}`, role: kind === "error" ? "alert" : "status" }, h("span", {}, words),
      h("button", { class: "plain", title: "Dismiss", "aria-label": "Dismiss", onclick: () => toast.remove() }, "✕"))
    node.append(toast)
    while (node.childElementCount > 4) node.firstElementChild.remove()
    if (kind !== "error") setTimeout(() => toast.remove(), 5000)
  }
  return { node, show }
}

// Dialogs are the browser's own: they hold the focus, close with Escape and give the focus back.
export function makeConfirm() {
  const node = h("div", { class: "dialogs" })

  // A dialog with any content; `closed` is called when it has gone. Returns what closes it.
  function open(title, content, { closed = () => {}, wide = false } = {}) {
    const dialog = h("dialog", { class: wide ? "dialog wide" : "dialog", "aria-label": title },
      h("header", {}, h("h2", {}, title),
        h("button", { class: "plain", "aria-label": "Close", title: "Close", onclick: () => dialog.close() }, "✕")),
      content)
    dialog.addEventListener("close", () => { dialog.remove(); closed() })
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close() })
    node.append(dialog)
    dialog.showModal()
    return () => dialog.close()
  }

  function ask({ title, words = "", action = "Go on", danger = false }) {
    return new Promise((resolve) => {
      let agreed = false
      const yes = h("button", { class: danger ? "danger solid" : "primary", onclick: () => { agreed = true; close() } }, action)
      const no = h("button", { onclick: () => close() }, "Back")
      const content = h("div", { class: "form" }, words instanceof Node ? words : h("p", { class: "question" }, words),
        h("div", { class: "buttons end" }, no, yes))
      const close = open(title, content, { closed: () => resolve(agreed) })
      ;(danger ? no : yes).focus()
    })
  }

  return { node, open, ask }
}

// What was typed and not sent yet, by a name; it outlives a reload of this tab.
export const makeDrafts = (project) => (name) => {
  const key = () => `orch-draft:${project()}:${name}`
  return {
    get: () => sessionStorage.getItem(key()) ?? "",
    set: (value) => (value ? sessionStorage.setItem(key(), value) : sessionStorage.removeItem(key())),
    clear: () => sessionStorage.removeItem(key()),
  }
}
