// The stream of everything: newest on top, live, at most so many rows in the page, older ones on demand.

import { clock, h, text } from "./dom.js"

// Rows in the page: while they stream in, of which each costs at every frame, and while someone reads back.
const LIVE = 400, MOST = 2000
const KINDS = [
  ["transition", "Transitions"], ["event", "Events"], ["progress", "Progress and heartbeats"], ["attention", "Attention"],
  ["verdict", "Verdicts"], ["usage", "Usage"], ["session", "Sessions"],
]
const GLYPHS = { info: "·", warning: "▲", error: "✕" }

export default function make(app, args) {
  const chosen = new Set((args.kinds ?? "").split(",").filter((kind) => KINDS.some(([name]) => name === kind)))
  let paused = false, byScroll = false, waiting = 0, ended = false, asking = true, detached = false, typing = null

  const boxes = KINDS.map(([kind, title]) => [kind, h("input", { type: "checkbox", checked: !chosen.size || chosen.has(kind), onchange: filter }), title])
  const kindsWord = h("span", {})
  const menu = h("details", { class: "events-kinds" }, h("summary", {}, "Kinds: ", kindsWord),
    h("div", { class: "events-menu" }, ...boxes.map(([, box, title]) => h("label", {}, box, ` ${title}`))))
  const unit = h("input", { type: "search", placeholder: "Unit", "aria-label": "Only units whose name has", value: args.unit ?? "", oninput: soon })
  const words = h("input", { type: "search", class: "search", placeholder: "Search what happened", "aria-label": "Search in the stream", value: args.text ?? "", oninput: soon })
  const level = h("select", { "aria-label": "Severity", onchange: filter }, h("option", { value: "" }, "All severities"),
    h("option", { value: "warning" }, "Warnings and errors"), h("option", { value: "error" }, "Errors only"))
  level.value = ["warning", "error"].includes(args.level) ? args.level : ""
  const pauseButton = h("button", { class: "quiet events-pause", title: "Hold the stream still (P or Space)", onclick: () => pause(!paused) })
  const list = h("ol", { class: "events-list", "aria-label": "What happened, newest first" })
  const hint = h("p", { class: "hint", role: "status" }, "Loading…")
  const more = h("button", { class: "events-older", onclick: older, hidden: true }, "Older")
  const box = h("div", { class: "events-box", tabIndex: 0, role: "region", "aria-label": "The stream", onscroll: scrolled }, list, hint, more)
  const node = h("section", { class: "events" },
    h("div", { class: "tools" }, h("h2", {}, "Events"), menu, level, unit, words, h("span", { class: "gap" }), pauseButton), box)

  function kindsSaid() {
    const on = boxes.filter(([, one]) => one.checked)
    text(kindsWord, on.length === KINDS.length ? "all" : on.length === 1 ? on[0][2] : `${on.length} of ${KINDS.length}`)
    return on.length === KINDS.length ? "" : on.map(([kind]) => kind).join(",")
  }
  function wanted() {
    return { kinds: kindsSaid(), unit: unit.value.trim(), level: level.value, text: words.value.trim() }
  }
  function soon() {
    clearTimeout(typing)
    typing = setTimeout(filter, 200)
  }
  function filter() {
    clearTimeout(typing)
    if (!boxes.some(([, one]) => one.checked)) for (const [, one] of boxes) one.checked = true
    const args = wanted()
    app.keep(args)
    asking = true
    paused = byScroll = false
    waiting = 0
    box.scrollTop = 0
    paint()
    app.say({ ask: "filter", ...args })
  }
  function pause(wish, scroll = false) {
    if (wish === paused) return
    paused = wish
    byScroll = wish && scroll
    if (!wish && detached) return filter() // the newest rows made room for old ones
    if (!wish) {
      waiting = 0
      box.scrollTop = 0
    }
    app.say({ ask: "pause", paused })
    paint()
  }
  function paint() {
    const n = waiting.toLocaleString("en")
    text(pauseButton, paused ? `Paused · ${n} new` : "Pause")
    pauseButton.setAttribute("aria-pressed", paused)
    pauseButton.classList.toggle("on", paused)
    more.hidden = ended || asking || !list.childElementCount
    hint.hidden = list.childElementCount > 0 && !(asking || ended)
    text(hint, asking ? "Loading…" : !list.childElementCount ? "Nothing of this kind has happened yet." : "This is the beginning.")
  }
  function scrolled() {
    if (box.scrollTop > 60) pause(true, true)
    else if (box.scrollTop < 4 && byScroll) pause(false)
    if (box.scrollTop + box.clientHeight > box.scrollHeight - 300) older()
  }
  function older() {
    const last = [...list.children].findLast((row) => row.dataset.seq)
    if (asking || ended || !last) return
    asking = true
    paint()
    app.say({ ask: "older", before: Number(last.dataset.seq) })
  }
  function onKey(event) {
    const at = event.composedPath()[0]
    if (event.ctrlKey || event.metaKey || event.altKey || at.closest?.("input, textarea, select, dialog")) return
    const onControl = at.closest?.("button, a, summary")
    if (event.key.toLowerCase() !== "p" && (event.key !== " " || onControl)) return
    event.preventDefault()
    pause(!paused)
  }
  function onPress(event) {
    if (!event.composedPath().includes(menu)) menu.open = false
  }
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return
    menu.open = false
    menu.firstElementChild.focus()
  })
  window.addEventListener("keydown", onKey)
  window.addEventListener("pointerdown", onPress)

  function rowOf(row) {
    const opener = h("button", { class: "plain events-open", "aria-expanded": "false", "aria-label": `Details of ${row.seq}`, onclick: () => toggle(item, opener, row) }, "▸")
    const what = row.kind === "transition" && row.from !== row.to
      ? [h("b", {}, row.what), h("span", { class: "events-move" }, ` ${row.from} → ${row.to}`)] : [h("b", {}, row.what)]
    const item = h("li", { class: `events-row is-${row.level}` }, opener,
      h("time", { title: new Date(row.at).toString(), dateTime: new Date(row.at).toISOString() }, clock(row.at)),
      h("span", { class: "events-seq" }, row.seq),
      h("span", { class: "events-level", title: row.level }, h("span", { "aria-hidden": "true" }, GLYPHS[row.level] ?? "·"),
        row.level === "info" ? null : h("span", { class: "sr" }, row.level)),
      h("span", { class: "events-unit" }, row.unit ? app.unitLink(row.unit) : "project"),
      h("span", { class: "events-kind" }, row.kind),
      h("span", { class: "events-what" }, ...what, row.phase ? h("span", { class: "tag" }, `${row.phase}${row.attempt ? ` #${row.attempt}` : ""}`) : null,
        h("span", { class: "events-text" }, row.text), row.actor ? h("span", { class: "events-actor" }, row.actor) : null))
    item.dataset.seq = row.seq
    return item
  }
  function toggle(item, opener, row) {
    const shown = item.querySelector(".events-whole")
    opener.setAttribute("aria-expanded", !shown)
    text(opener, shown ? "▸" : "▾")
    item.classList.toggle("open", !shown)
    if (shown) return shown.remove()
    item.append(h("pre", { class: "events-whole words open", tabIndex: 0, "aria-label": `Details of ${row.seq}` }, "Loading…"))
    pause(true)
    app.say({ ask: "whole", kind: row.kind, seq: row.seq })
  }
  function markerOf(gap) {
    const said = gap.count ? `${gap.count.toLocaleString("en")} more: show` : "More: show"
    const button = h("button", { class: "plain", onclick: () => {
      button.disabled = true
      pause(true)
      app.say({ ask: "between", after: gap.after, before: gap.before })
    } }, said)
    const item = h("li", { class: "events-more" }, button)
    item.dataset.before = gap.before
    return item
  }
  function trim() {
    while (list.childElementCount > (paused ? MOST : LIVE)) {
      list.lastElementChild.remove()
      ended = false
    }
  }

  kindsSaid()
  paint()
  return {
    node,
    frame(payload) {
      if ("waiting" in payload) {
        waiting = payload.waiting
        paint()
        return
      }
      const rows = payload.rows.map(rowOf)
      if (payload.more) rows.push(markerOf(payload.more))
      list.prepend(...rows)
      trim()
      paint()
    },
    told(said) {
      if (said.newest) {
        list.replaceChildren(...said.newest.map(rowOf))
        asking = detached = false
        ended = said.end
      } else if (said.older) {
        list.append(...said.older.map(rowOf))
        asking = false
        ended = said.end
        while (list.childElementCount > MOST) {
          list.firstElementChild.remove()
          detached = true
        }
      } else if (said.between) {
        const marker = list.querySelector(`.events-more[data-before="${said.before}"]`)
        const rows = said.between.map(rowOf)
        if (said.rest) rows.push(markerOf(said.rest))
        marker?.replaceWith(...rows)
        trim()
      } else if (said.whole) {
        const whole = list.querySelector(`[data-seq="${said.whole}"] .events-whole`)
        if (whole) text(whole, said.text)
      } else if (said.rows) return this.frame(said)
      paint()
    },
    close() {
      clearTimeout(typing)
      window.removeEventListener("keydown", onKey)
      window.removeEventListener("pointerdown", onPress)
    },
  }
}
