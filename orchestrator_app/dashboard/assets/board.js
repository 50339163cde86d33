// The board: units in columns by status or phase. Of each column only what is seen is told by the server and drawn.

import { makeBar } from "./boardbar.js"
import { makeCard } from "./card.js"
import { makeColumn, ROW } from "./column.js"
import { arrange, focused, h, text } from "./dom.js"

const GROUPS = [["status", "by status"], ["phase", "by phase"]]
const SORTS = [["turn", "Whose turn it is"], ["oldest", "Oldest first"], ["newest", "Newest first"], ["name", "Name"], ["priority", "Priority"]]
const HIDDEN = new Set(["status:PAUSED", "status:CANCELLED"]) // while nothing stands in them
const TYPING = 200 // ms of rest after which what was typed is searched for

export default function make(app, args) {
  const query = { q: args.q ?? "", group: pick(GROUPS, args.group), sort: pick(SORTS, args.sort) }
  const units = new Map(), cards = new Map(), columns = new Map()
  let order = [], look = 1, matching = 0, all = null, typing = 0, due = 0, current = null, awaited = null

  // -- tools

  const search = h("input", { type: "search", class: "search", value: query.q, "aria-label": "Filter units", autocomplete: "off", spellcheck: false,
    placeholder: "Filter: name, label, status:…", title: "Words anywhere in name, labels, phase, agent or status; or status:READY label:gpu agent:claude phase:PLAN workflow:x. Press / to come here.",
    oninput: () => { clearTimeout(typing); typing = setTimeout(searchNow, TYPING) },
    onkeydown: (event) => {
      if (event.key === "Enter") searchNow()
      if (event.key === "Escape" && search.value) { event.preventDefault(); search.value = ""; searchNow() }
    } })
  const group = choice("Columns", GROUPS, "group"), sort = choice("Order", SORTS, "sort")
  const counted = h("span", { class: "count matching", role: "status" })
  const selectAll = h("button", { class: "quiet acts", hidden: true, onclick: () => bar.selectAll() })
  const keys = h("span", { class: "hint keys" }, "Keys: arrows or j k move, x selects, Enter opens, / filters")
  const tools = h("div", { class: "tools" }, search, group.node, sort.node, counted, selectAll, h("span", { class: "gap" }), keys)
  const nothing = h("p", { class: "hint welcome", hidden: true })
  const board = h("div", { class: "board", role: "region", "aria-label": "Board" }, h("p", { class: "hint loading", role: "status" }, "Loading…"))
  const bar = makeBar(app, { changed: drawChosen, matching: () => matching, reset: (name) => cards.get(name)?.choose(bar.has(name)) })
  const node = h("section", { class: "board-page" }, tools, nothing, board, bar.node)

  function pick(choices, value) {
    return choices.some(([name]) => name === value) ? value : choices[0][0]
  }

  function choice(label, choices, name) {
    const select = h("select", { "aria-label": label, onchange: () => { query[name] = select.value; ask() } },
      ...choices.map(([value, title]) => h("option", { value, selected: value === query[name] }, title)))
    return { node: h("label", { class: "inline" }, h("span", { class: "label" }, label), select) }
  }

  function searchNow() {
    clearTimeout(typing)
    if (search.value.trim() === query.q) return
    query.q = search.value.trim()
    bar.clear()
    ask()
  }

  // Look for something else: a new look, so that late words about the one before are told apart.
  function ask() {
    look++
    app.keep({ q: query.q, group: query.group === "status" ? "" : query.group, sort: query.sort === "turn" ? "" : query.sort })
    board.setAttribute("aria-busy", "true")
    app.say({ look, args: query })
  }

  // -- frames

  function frame(told) {
    if (told.look !== look) return
    const before = held()
    if (board.getAttribute("aria-busy") || !columns.size) begin()
    for (const [name, unit] of Object.entries(told.units ?? {})) {
      units.set(name, unit)
      cards.get(name)?.update(unit)
    }
    if (told.order) order = told.order
    for (const key of [...columns.keys()]) if (!order.includes(key)) columns.delete(key)
    for (const key of order) if (!columns.has(key)) columns.set(key, makeColumn(key, { card: cardOf, moved }))
    for (const [key, one] of Object.entries(told.columns ?? {})) columns.get(key)?.apply(one)
    for (const [key, column] of columns) column.node.hidden = column.total === 0 && HIDDEN.has(key) && columns.size > 1
    arrange(board, order.map((key) => columns.get(key).node))
    if ("matching" in told) { matching = told.matching; all = told.all; drawCounts() }
    forget()
    draw(before)
    if (awaited) go(awaited.column, awaited.index)
  }

  function begin() {
    board.removeAttribute("aria-busy")
    columns.clear()
    units.clear()
    awaited = null
    board.replaceChildren()
    board.scrollLeft = 0
  }

  // Units outside every window are not told of any more: what was known of them would grow old.
  function forget() {
    const seen = new Set([...columns.values()].flatMap((column) => column.names))
    const kept = held()?.card.name
    for (const name of units.keys()) if (!seen.has(name) && name !== kept) { units.delete(name); cards.delete(name) }
  }

  function cardOf(name) {
    const unit = units.get(name)
    if (!unit) return null
    let card = cards.get(name)
    if (!card) {
      cards.set(name, card = makeCard(app, name, ticked))
      card.update(unit)
      card.choose(bar.has(name))
    }
    return card
  }

  // The card with the focus, and what in it has it.
  function held() {
    const active = focused(board)
    const card = active && [...cards.values()].find((one) => one.node.contains(active))
    return card ? { card, active, column: columnOf(card.name) } : null
  }

  const columnOf = (name) => [...columns.values()].find((column) => column.place(name) >= 0) ?? null

  function draw(before = held()) {
    for (const column of columns.values()) column.draw(before?.card)
    // Moving a card takes its focus away: it gets it back, or the one that stands in its place now gets it.
    if (before && focused(board) !== before.active) {
      if (before.active.isConnected) before.active.focus({ preventScroll: true })
      else if (before.column && columns.get(before.column.key) === before.column) {
        const near = before.column.at(Math.min(current?.index ?? 0, before.column.total - 1))
        if (near && cards.has(near)) setCurrent(before.column, near)
      }
    }
    drawCurrent()
    tell()
  }

  function tell() {
    const windows = {}
    for (const column of columns.values()) {
      const wanted = column.wanted()
      if (wanted) windows[column.key] = wanted
    }
    if (Object.keys(windows).length) app.say({ windows, of: look })
  }

  function moved() {
    if (!due) due = requestAnimationFrame(() => { due = 0; draw() })
  }

  function drawCounts() {
    text(counted, matching === all ? `${all.toLocaleString()} unit${all === 1 ? "" : "s"}` : `${matching.toLocaleString()} of ${all.toLocaleString()} match`)
    nothing.hidden = matching > 0
    text(nothing, all ? "No unit matches. Take something out of the filter, or press Escape in it to see all."
      : "No work units yet. Submit one with the button above, or in a terminal: orch submit my-change -p \"what to do\"")
    board.hidden = matching === 0
    drawChosen()
  }

  // -- selection

  function drawChosen() {
    for (const card of cards.values()) card.choose(bar.has(card.name))
    selectAll.hidden = !matching || bar.count() >= matching
    text(selectAll, `Select all ${matching.toLocaleString()}${matching === all ? "" : " that match"}`)
    node.classList.toggle("choosing", bar.count() > 0)
  }

  let lastTicked = null
  function ticked(name, chosen, shift) {
    const column = columnOf(name)
    if (shift && lastTicked && lastTicked !== name && column) bar.range(column.key, lastTicked, name, chosen)
    else bar.choose([name], chosen)
    lastTicked = name
  }

  // -- keyboard

  // One card at a time is reached with Tab; from there on the arrows move.
  function drawCurrent() {
    if (current) {
      const column = columns.get(current.key), at = column ? column.place(current.name) : -1
      if (at >= 0) current.index = at
    }
    const name = current && cards.get(current.name)?.node.isConnected ? current.name : firstCard()?.name
    for (const card of cards.values()) card.link.tabIndex = card.box.tabIndex = card.name === name ? 0 : -1
  }

  function firstCard() {
    for (const key of order) {
      const card = cards.get(columns.get(key)?.at(0))
      if (card) return card
    }
    return null
  }

  function setCurrent(column, name) {
    current = { key: column.key, name, index: column.place(name) }
    drawCurrent()
    cards.get(name).link.focus({ preventScroll: true })
  }

  // To a place of a column, which may have to be told of first.
  function go(column, index) {
    if (!column.total) return
    const at = Math.max(0, Math.min(index, column.total - 1))
    column.reveal(at)
    column.node.scrollIntoView({ block: "nearest", inline: "nearest" })
    const name = column.at(at)
    awaited = name && units.has(name) ? null : { column, index: at }
    if (awaited) return moved()
    for (const one of columns.values()) one.draw(held()?.card)
    setCurrent(column, name)
    tell()
  }

  function step(key) {
    const shown = order.map((one) => columns.get(one)).filter((column) => column && column.total)
    if (!shown.length) return
    const at = shown.findIndex((column) => column.key === current?.key), column = shown[at]
    const inside = column && held()
    if (!inside) return go(column ?? shown[0], column ? column.place(current.name) : Math.round(shown[0].scroller.scrollTop / ROW))
    const index = column.place(current.name) >= 0 ? column.place(current.name) : current.index
    const beside = (by) => {
      const next = shown[at + by]
      if (!next) return
      const row = index - Math.floor(column.scroller.scrollTop / ROW)
      go(next, Math.floor(next.scroller.scrollTop / ROW) + row)
    }
    if (key === "j" || key === "ArrowDown") go(column, index + 1)
    else if (key === "k" || key === "ArrowUp") go(column, index - 1)
    else if (key === "h" || key === "ArrowLeft") beside(-1)
    else if (key === "l" || key === "ArrowRight") beside(1)
    else if (key === "Home") go(column, 0)
    else if (key === "End") go(column, column.total - 1)
  }

  const MOVES = new Set(["j", "k", "h", "l", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Home", "End"])
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return
    const target = event.composedPath()[0], inside = held()
    const typed = target instanceof Element && (target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]") || target.closest("dialog"))
    if (typed) return
    if (event.key === "/") { event.preventDefault(); search.focus(); search.select() }
    else if (event.key === "Escape" && bar.count()) bar.clear()
    else if (event.key === "x" && inside) { event.preventDefault(); ticked(inside.card.name, !bar.has(inside.card.name), false) }
    else if (event.key === "X" && inside) { event.preventDefault(); ticked(inside.card.name, true, true) }
    else if (event.key === "Enter" && inside && inside.active === inside.card.box) app.show("unit", { unit: inside.card.name })
    else if (MOVES.has(event.key) && (inside || event.key === "j" || event.key === "k")) { event.preventDefault(); step(event.key) }
  }
  window.addEventListener("keydown", onKey)
  board.addEventListener("focusin", () => {
    const inside = held()
    if (inside?.column) { current = { key: inside.column.key, name: inside.card.name, index: inside.column.place(inside.card.name) }; drawCurrent() }
  })
  const sized = new ResizeObserver(moved)
  sized.observe(board)

  return {
    node,
    frame,
    told: (said) => bar.told(said),
    tick(now) { for (const card of cards.values()) if (card.node.isConnected) card.tick(now) },
    close() {
      clearTimeout(typing)
      cancelAnimationFrame(due)
      sized.disconnect()
      window.removeEventListener("keydown", onKey)
    },
  }
}
