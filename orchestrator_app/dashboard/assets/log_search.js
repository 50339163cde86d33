// The search field of a log: the next or previous hit in the whole file, how many there are, how far the search is.

import { h, text } from "./dom.js"

const SOON = 150 // ms after the last key until what is in the page is marked

// `place()`: the byte from which to look on, null at the end; `show(hit)` goes there; `lines.mark(text)` marks.
export function makeSearch({ say, bytes, lines, show, place, size }) {
  let id = 0, asked = "", hit = null, marked = "", timer = null

  const field = h("input", {
    type: "search", class: "log-field", placeholder: "Search the whole output", "aria-label": "Search the output",
    maxLength: 200, spellcheck: false, autocomplete: "off" })
  const back = h("button", { class: "quiet", title: "Previous hit (Shift+Enter)", "aria-label": "Previous hit",
    onclick: () => ask("previous") }, "↑")
  const on = h("button", { class: "quiet", title: "Next hit (Enter)", "aria-label": "Next hit",
    onclick: () => ask("next") }, "↓")
  const words = h("span", { class: "log-found", role: "status" })
  const cancel = h("button", { class: "plain", hidden: true, onclick: () => say("log-cancel") }, "Cancel")
  const node = h("span", { class: "log-search", role: "search" }, field, back, on, words, cancel)

  function mark(wanted) {
    clearTimeout(timer)
    if (wanted === marked) return
    marked = wanted
    lines.mark(wanted)
  }

  function ask(direction) {
    const wanted = field.value
    if (!wanted) return
    mark(wanted)
    if (wanted !== asked) hit = null
    asked = wanted
    id += 1
    let from = hit && (direction === "next" ? hit.end : hit.at)
    if (!hit) {
      from = place()
      if (from === null) [from, direction] = [size(), "previous"] // who follows the end wants the newest hit
    }
    text(words, "Searching…")
    cancel.hidden = false
    say("log-search", { text: wanted, from, direction, id })
  }

  function forget() {
    if (asked) say("log-cancel")
    asked = ""
    hit = null
    id += 1
    cancel.hidden = true
    text(words, "")
    mark("")
  }

  field.addEventListener("input", () => {
    if (!field.value) forget()
    else {
      clearTimeout(timer)
      timer = setTimeout(() => mark(field.value), SOON)
    }
  })
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault()
      ask(event.shiftKey ? "previous" : "next")
    } else if (event.key === "Escape" && field.value) {
      event.stopPropagation()
      field.value = ""
      forget()
    }
  })

  const grouped = (n) => n.toLocaleString("en")
  const counted = (told) => (told.place ? `${grouped(told.place)} of ` : "") + grouped(told.hits)
  const hits = (told) => `${told.more ? "more than " : ""}${counted(told)} hit${told.hits === 1 ? "" : "s"}`

  return {
    node,
    focus() {
      field.focus()
      field.select()
    },
    told(told) {
      if (told.id !== id) return
      const around = hit && hit.around ? " · wrapped around" : ""
      const far = `${bytes(told.done ?? 0)} of ${bytes(told.of ?? 0)}`
      if (told.state === "searching") text(words, `Searching… ${far}`)
      else if (told.state === "counting") text(words, `${counted(told)} so far (${far})${around}`)
      else if (told.state === "counted") text(words, hits(told) + around)
      else if (told.state === "hit") {
        hit = told
        text(words, "Found")
        show(told)
      } else if (told.state === "nothing") text(words, "Nothing found")
      else if (told.state === "cancelled") text(words, hit ? "Found; counting was cancelled" : "Cancelled")
      else text(words, told.text)
      cancel.hidden = !["searching", "counting", "hit"].includes(told.state)
    },
    // Another attempt is shown: what was found is of no use there, what is marked still is.
    reset() {
      asked = ""
      hit = null
      id += 1
      cancel.hidden = true
      text(words, "")
    },
    close() { clearTimeout(timer) },
  }
}
