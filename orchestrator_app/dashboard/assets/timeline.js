// The timeline's controls, legend, hint and table; the picture itself stands below, see dashboard/timeline.py.

import { clock, duration, h, moment, plain, text } from "./dom.js"

const MINUTE = 60000, HOUR = 60 * MINUTE, DAY = 24 * HOUR
const SPANS = [["1 min", MINUTE], ["10 min", 10 * MINUTE], ["Hour", HOUR], ["Day", DAY], ["Week", 7 * DAY], ["Month", 31 * DAY], ["All", "all"]]
const REST = 120 // ms that the pointer rests on a bar before its story is asked for

export default function make(app, args) {
  let view = null, last = args.last === "all" ? "all" : null, zone = null, table = args.table === "1"

  const spans = SPANS.map(([title, span]) => h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => {
    last = span === "all" ? "all" : null
    app.say({ last: span })
  } }, title))
  const follow = h("input", { type: "checkbox", checked: true, onchange: () => app.say({ follow: follow.checked }) })
  const rows = choice("Rows", ["slot", "phase"], (rows) => app.say({ rows }))
  const colour = choice("Colour", ["phase", "outcome"], (color) => app.say({ color }))
  const listed = h("input", { type: "checkbox", checked: table, onchange: () => { table = listed.checked; list.node.hidden = !table; app.say({ table }); keep() } })
  const act = (label, title, message) => h("button", { type: "button", class: "quiet step", "aria-label": title, title, onclick: () => app.say(message) }, label)
  const legend = h("ul", { class: "legend", "aria-label": "Legend" })
  const said = h("p", { class: "hint where", role: "status" })
  const empty = h("p", { class: "hint welcome", hidden: true },
    "Nothing has run yet. Every attempt of a unit will be a bar here, from its start to its end: one row for each slot, or for each phase.")
  const list = makeTable(app), hint = makeHint(app)
  const tools = h("div", { class: "tools" },
    h("div", { class: "group", role: "group", "aria-label": "Time shown: the last" }, h("span", { class: "inline" }, "Last"), ...spans),
    h("div", { class: "group", role: "group", "aria-label": "Move and zoom" },
      act("←", "Earlier", { move: -0.5 }), act("→", "Later", { move: 0.5 }), act("−", "Zoom out", { zoom: 2 }), act("+", "Zoom in", { zoom: 0.5 })),
    h("label", { class: "inline" }, follow, "Follow now"), rows.node, colour.node,
    h("label", { class: "inline" }, listed, "Show as table"))
  list.node.hidden = !table
  const node = h("section", { class: "timeline" }, h("h2", {}, "Timeline"), tools, empty, said, legend, list.node, hint.node)

  function keep() {
    if (!view) return
    const shown = view.follow ? { last: last ?? Math.round(view.to - view.from) } : { from: Math.round(view.from), to: Math.round(view.to) }
    if (shown.last === HOUR) delete shown.last
    app.keep({ ...shown, rows: view.rows === "phase" ? "phase" : "", color: view.color === "outcome" ? "outcome" : "", table: table ? "1" : "" })
  }

  function show(now) {
    const before = view
    view = now
    if (!now.follow || (before && last === "all" && Math.abs((now.to - now.from) / (before.to - before.from) - 1) > 0.1 && before.follow && now.from > before.from)) last = null
    follow.checked = now.follow
    rows.set(now.rows)
    colour.set(now.color)
    SPANS.forEach(([, span], at) => {
      const on = now.follow && (span === "all" ? last === "all" : last !== "all" && Math.abs(now.to - now.from - span) < 1)
      spans[at].setAttribute("aria-pressed", String(on))
    })
    empty.hidden = now.first !== null
    for (const one of [said, legend]) one.hidden = now.first === null
    const many = `${now.total.toLocaleString()} attempt${now.total === 1 ? "" : "s"} in view`
    const older = now.first !== null && now.from < now.first && now.cut ? "; older ones are left out" : ""
    text(said, `${moment(now.from)} – ${now.follow ? "now" : moment(now.to)} · ${many}${older}${now.binned ? ": shaded by how busy; zoom in for single attempts" : ""} · times in ${zoneName()}`)
    keep()
  }

  // Bars are drawn by the clock of this browser. Its distance from UTC may change while the page is open.
  function tellZone() {
    const minutes = -new Date().getTimezoneOffset()
    if (minutes !== zone) app.say({ zone: zone = minutes })
  }

  function onPicture({ detail: { what, of, bar } }) {
    if (what === "leave") hint.away()
    else if (what === "hover") hint.over(of, bar, zone * MINUTE)
    else if (bar && of === "bar") app.show("unit", { unit: bar.unit })
    else if (bar) app.say({ from: bar.left - zone * MINUTE, to: Math.max(bar.right, bar.left + MINUTE) - zone * MINUTE })
  }
  window.addEventListener("orch-timeline", onPicture)
  window.addEventListener("pointermove", hint.moved)

  return {
    node,
    frame(now) {
      if (now.opened) {
        tellZone()
        if (table) app.say({ table })
      }
      if (now.legend) legend.replaceChildren(...now.legend.map(swatch))
      if (now.table) list.apply(now.table)
      if (now.view) show(now.view)
    },
    told(told) {
      if (told.story) hint.story(told.story)
    },
    tick() {
      if (document.hidden) return
      tellZone()
      app.say({ beat: 1 })
    },
    close() {
      window.removeEventListener("orch-timeline", onPicture)
      window.removeEventListener("pointermove", hint.moved)
      hint.away()
    },
  }
}

function zoneName() {
  const minutes = -new Date().getTimezoneOffset(), sign = minutes < 0 ? "−" : "+", all = Math.abs(minutes)
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone
  const offset = minutes ? `UTC${sign}${Math.floor(all / 60)}${all % 60 ? `:${String(all % 60).padStart(2, "0")}` : ""}` : "UTC"
  return name && name !== offset ? `${offset} (${name})` : offset
}

function choice(label, names, chosen) {
  const buttons = names.map((name) => h("button", { type: "button", class: "quiet", "aria-pressed": "false", onclick: () => chosen(name) }, name))
  return {
    node: h("div", { class: "group", role: "group", "aria-label": label }, h("span", { class: "inline" }, label), ...buttons),
    set: (name) => buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(names[at] === name))),
  }
}

const HATCHES = { "/": "slash", x: "cross", ".": "dots", "-": "dash" }

function swatch({ name, colour, hatch }) {
  const sample = h("span", { class: `sample ${HATCHES[hatch] ?? ""}`, "aria-hidden": "true" })
  sample.style.backgroundColor = colour || "transparent"
  return h("li", {}, sample, name)
}

// The words for how an attempt ended: what moved its unit on.
const ended = (move) => move ? `${move.trigger} → ${move.to_status.toLowerCase().replace("_", " ")}` : "still running"

// What a bar is about, beside the pointer. The story is asked for once the pointer rests, and everything is text.
function makeHint(app) {
  const title = h("strong", {}), facts = h("div", { class: "facts-line" }), why = h("p", { class: "why" }), before = h("ol", {})
  const node = h("div", { class: "timeline-hint", role: "tooltip", hidden: true }, title, facts, why, before)
  let kind = null, seq = null, timer = 0, at = { x: 0, y: 0 }

  function place() {
    const { width, height } = node.getBoundingClientRect()
    const x = at.x + 16 + width > innerWidth ? at.x - 16 - width : at.x + 16
    const y = at.y + 16 + height > innerHeight ? at.y - 16 - height : at.y + 16
    node.style.left = `${Math.max(8, Math.min(x, innerWidth - width - 8))}px`
    node.style.top = `${Math.max(8, y)}px`
  }

  function away() {
    clearTimeout(timer)
    kind = seq = null
    node.hidden = true
  }

  function bin(bar, shift) {
    text(title, `${bar.count.toLocaleString()} attempt${bar.count === 1 ? "" : "s"}${bar.failed ? `, ${bar.failed.toLocaleString()} failed or lost` : ""}`)
    text(facts, `${moment(bar.left - shift)} – ${clock(bar.right - shift)} · busy ${Math.round(bar.share * 100)} %`)
    text(why, "Click to zoom in")
    before.replaceChildren()
  }

  return {
    node,
    away,
    moved(event) { at = { x: event.clientX, y: event.clientY }; if (!node.hidden) place() },
    over(of, bar, shift) {
      if (!bar) { if (of === kind) away(); return }
      const mark = of === "bar" ? bar.seq : `${bar.lane} ${bar.left}`
      if (of !== kind || mark !== seq) {
        clearTimeout(timer)
        kind = of
        seq = mark
        if (of === "bin") bin(bar, shift)
        else {
          text(title, plain(bar.unit))
          text(facts, "…")
          text(why, "")
          before.replaceChildren()
          timer = setTimeout(() => app.say({ story: bar.seq }), REST)
        }
      }
      node.hidden = false
      place()
    },
    story(told) {
      if (kind !== "bar" || told.seq !== seq) return
      const here = told.moves.findIndex((move) => move.seq === told.seq), start = told.moves[here], end = told.moves[here + 1]
      const took = duration((end?.occurred_at ?? Date.now()) - start.occurred_at)
      text(facts, `${start.phase} · attempt ${start.attempt} · started ${moment(start.occurred_at)} · ${end ? `took ${took}` : `for ${took}`} · ${ended(end)}`)
      text(why, plain(end?.reason ?? start.reason ?? ""))
      before.replaceChildren(...told.moves.slice(0, here).map((move) => h("li", {},
        `${moment(move.occurred_at)} ${move.trigger} → ${move.to_status.toLowerCase().replace("_", " ")} (${move.phase})${move.reason ? `: ${plain(move.reason).slice(0, 120)}` : ""}`)))
      place()
    },
  }
}

// The same in words: for screen readers, keyboards, and whoever likes numbers.
function makeTable(app) {
  const body = h("tbody", {}), rows = new Map()
  const heads = ["Unit", "Phase", "Attempt", "Started", "Took", "Ended"].map((name) => h("th", { scope: "col" }, name))
  const node = h("div", { class: "timeline-table", tabIndex: 0, role: "region", "aria-label": "Attempts in view" },
    h("table", { class: "table" }, h("caption", {}, "Attempts in view, the newest 100"), h("thead", {}, h("tr", {}, ...heads)), body))

  function row(one) {
    const took = h("td", {}), how = h("td", {})
    const node = h("tr", {}, h("th", { scope: "row" }, app.unitLink(one.unit)), h("td", {}, one.phase), h("td", {}, one.attempt), h("td", {}, moment(one.started)), took, how)
    return { node, update(now) {
      text(took, duration((now.ended ?? Date.now()) - now.started))
      text(how, now.reason ? `${now.outcome}: ${plain(now.reason)}` : now.outcome)
    } }
  }

  return {
    node,
    apply(listed) {
      const seen = new Set(listed.map((one) => one.seq))
      for (const [seq, one] of rows) if (!seen.has(seq)) { one.node.remove(); rows.delete(seq) }
      let at = body.firstElementChild
      for (const one of listed) {
        if (!rows.has(one.seq)) rows.set(one.seq, row(one))
        const { node, update } = rows.get(one.seq)
        update(one)
        if (node === at) at = at.nextElementSibling
        else body.insertBefore(node, at)
      }
    },
  }
}
