// One unit on the board: a card of a fixed height, kept as long as its unit is seen.

import { clock, duration, h, plain, text } from "./dom.js"

const ENDED = new Set(["DONE", "CANCELLED"])
const GLYPHS = { NEEDS_ATTENTION: "!", RUNNING: "▶", READY: "○", BLOCKED: "…", PAUSED: "‖", DONE: "✓", CANCELLED: "✕" }
const WORDS = { NEEDS_ATTENTION: "needs attention", RUNNING: "running", READY: "ready", BLOCKED: "blocked", PAUSED: "paused", DONE: "done", CANCELLED: "cancelled" }

function words(unit) {
  if (unit.status === "RUNNING") return unit.step
  if (unit.status === "BLOCKED") {
    return unit.waiting ? `waits for ${unit.waits.slice(0, 2).join(", ")}${unit.waiting > 2 ? ` and ${unit.waiting - 2} more` : ""}` : ""
  }
  if (unit.status !== "READY") return unit.reason
  return unit.notBefore && unit.notBefore > Date.now() ? `not before ${clock(unit.notBefore)}` : ""
}

function tagsOf(unit) {
  return [
    unit.attempt > 1 ? `attempt ${unit.attempt}` : "", unit.priority ? `priority ${unit.priority}` : "",
    unit.blocks && !ENDED.has(unit.status) ? `${unit.blocks} wait${unit.blocks === 1 ? "s" : ""} for it` : "",
    ...unit.labels.map((label) => `#${label}`),
  ].filter(Boolean)
}

// `ticked(name, checked, shift)` is called when its box is clicked.
export function makeCard(app, name, ticked) {
  const box = h("input", { type: "checkbox", class: "tick", tabIndex: -1, "aria-label": `Select ${name}`,
    onclick: (event) => { event.stopPropagation(); ticked(name, box.checked, event.shiftKey) } })
  const link = app.unitLink(name)
  link.tabIndex = -1
  link.title = name
  const glyph = h("span", { class: "glyph", "aria-hidden": "true" }), status = h("span", { class: "sr" })
  const age = h("span", { class: "age" }), phase = h("span", { class: "phase" }), line = h("span", { class: "line" })
  const bar = h("div", { class: "fill" })
  const progress = h("div", { class: "progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `Progress of ${name}` }, bar)
  const tags = h("div", { class: "tags" })
  const node = h("div", { class: "card", role: "listitem" },
    h("div", { class: "top" }, box, glyph, status, link, age), h("div", { class: "sub" }, phase, line), tags, progress)
  let shown = null
  const card = {
    name, node, link, box, unit: null,
    update(unit) {
      card.unit = unit
      node.className = `card ${unit.status}${node.classList.contains("chosen") ? " chosen" : ""}`
      text(glyph, GLYPHS[unit.status])
      text(status, WORDS[unit.status])
      text(phase, unit.phase)
      const said = plain(words(unit)).replace(/\s+/g, " ").trim()
      text(line, said)
      line.title = said
      progress.hidden = unit.status !== "RUNNING"
      progress.classList.toggle("unknown", unit.percent === null)
      bar.style.width = unit.percent === null ? "" : `${unit.percent}%`
      if (unit.percent === null) progress.removeAttribute("aria-valuenow")
      else progress.setAttribute("aria-valuenow", Math.round(unit.percent))
      const tagged = tagsOf(unit)
      if (tagged.join("\n") !== shown) {
        shown = tagged.join("\n")
        tags.replaceChildren(...tagged.map((tag) => h("span", { class: "tag" }, tag)))
        tags.title = tagged.join("  ")
      }
      card.tick(Date.now())
    },
    choose(chosen) {
      box.checked = chosen
      node.classList.toggle("chosen", chosen)
    },
    tick(now) {
      if (card.unit.since) text(age, ENDED.has(card.unit.status) ? clock(card.unit.since) : duration(now - card.unit.since))
    },
  }
  return card
}
