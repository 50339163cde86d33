// The dependency graph: drawn once as SVG, then only statuses change. Every unit is a link that the keyboard reaches:
// arrows go along the edges and up and down a column, Enter opens the unit.

import { duration, h, STATUSES, text } from "./dom.js"

const SVG = "http://www.w3.org/2000/svg"
const STEP = { x: 250, y: 50 }, NODE = { width: 190, height: 36 }
const CLOSEST = 300, LETTERS = 20
const GLYPHS = new Map(STATUSES.map(({ name, glyph, title }) => [name, { glyph, title }]))

function s(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value)
  node.append(...children)
  return node
}

export default function make(app, args) {
  let nodes = new Map(), statuses = {}, path = [], view = null, whole = { x: 0, y: 0, width: 1, height: 1 }
  let asked = { unit: args.unit ?? "", q: args.q ?? "", finished: args.finished === "1" }, timer = null

  const edges = s("g"), marks = s("g")
  const picture = s("svg", { class: "graph-picture", role: "group", "aria-label": "Dependency graph; arrow keys go from unit to unit, Enter opens one" }, edges, marks)
  const search = h("input", { type: "search", class: "search", placeholder: "Filter by name or label", "aria-label": "Filter the graph", value: asked.q, oninput: () => {
    clearTimeout(timer)
    timer = setTimeout(() => ask({ q: search.value.trim() }), 250)
  } })
  const finished = h("input", { type: "checkbox", checked: asked.finished, onchange: () => ask({ finished: finished.checked }) })
  const whose = h("button", { class: "quiet", hidden: true, title: "Show the whole graph again", onclick: () => ask({ unit: "" }) })
  const said = h("p", { class: "hint", role: "status" }), chain = h("ol", { class: "chain" }), summary = h("summary", {})
  const critical = h("details", { class: "critical", open: window.innerWidth < 700, hidden: true }, summary, chain)
  const none = h("p", { class: "hint welcome", hidden: true })
  const node = h("section", { class: "graph" },
    h("div", { class: "tools" }, h("h2", {}, "Graph"), search, h("label", { class: "inline" }, finished, "with finished units"), whose,
      h("span", { class: "buttons zoom" }, button("+", "Zoom in", () => zoom(1 / 1.4)), button("−", "Zoom out", () => zoom(1.4)), button("Fit", "Show all of it", fit))),
    said, critical, none, h("div", { class: "graph-frame" }, picture))

  function button(label, title, act) {
    return h("button", { class: "quiet", title, "aria-label": title, onclick: act }, label)
  }

  function ask(change) {
    asked = { ...asked, ...change }
    app.keep({ unit: asked.unit, q: asked.q, finished: asked.finished ? "1" : "" })
    view = null // another picture is shown whole
    app.say({ type: "show", ...asked })
  }

  // -- drawing

  function draw({ nodes: told, edges: drawn, hidden, alone, unit }) {
    const old = [...nodes.keys()].join("\n"), focus = picture.getRootNode().activeElement?.dataset?.unit
    nodes = new Map(told.map(([name, column, row]) => [name, { name, column, row, x: column * STEP.x, y: row * STEP.y, before: [], behind: [] }]))
    for (const [from, to] of drawn) {
      nodes.get(from).behind.push(to)
      nodes.get(to).before.push(from)
    }
    marks.replaceChildren(...[...nodes.values()].map(mark))
    edges.replaceChildren(...drawn.map(([from, to]) => edge(nodes.get(from), nodes.get(to))))
    none.hidden = nodes.size > 0
    text(none, asked.q ? "No unit with a dependency matches." : asked.unit ? `There is no unit ${asked.unit}.`
      : `No unit waits for another one.${alone ? ` ${alone.toLocaleString()} stand alone: see the board.` : ""} Dependencies come from orch submit NAME --after OTHER.`)
    picture.parentNode.hidden = !nodes.size
    const words = [`${nodes.size.toLocaleString()} unit${nodes.size === 1 ? "" : "s"}, ${drawn.length.toLocaleString()} dependenc${drawn.length === 1 ? "y" : "ies"}`]
    if (hidden) words.push(`${hidden.toLocaleString()} less important ones are not shown: filter, or open the graph of one unit`)
    if (alone && !unit) words.push(`${alone.toLocaleString()} without dependencies are on the board only`)
    text(said, nodes.size ? words.join(" · ") : "")
    whose.hidden = !unit
    text(whose, `Around ${unit} ✕`)
    const [xs, ys] = [[...nodes.values()].map((one) => one.x), [...nodes.values()].map((one) => one.y)]
    const x = Math.min(0, ...xs) - 20, y = Math.min(0, ...ys) - 30
    whole = { x, y, width: Math.max(0, ...xs) + NODE.width + 20 - x, height: Math.max(0, ...ys) + NODE.height + 10 - y }
    if (!view || (old !== [...nodes.keys()].join("\n") && !touched)) fit()
    if (focus) nodes.get(focus)?.mark.focus()
  }

  function mark(one) {
    const glyph = s("text", { class: "glyph", x: 12, y: 23 }), label = s("text", { x: 30, y: 23 })
    label.textContent = one.name.length > LETTERS ? `${one.name.slice(0, LETTERS - 1)}…` : one.name
    one.title = s("title")
    one.glyph = glyph
    one.mark = s("a", { class: "node", href: `?unit=${encodeURIComponent(one.name)}`, transform: `translate(${one.x} ${one.y})`, "data-unit": one.name },
      one.title, s("rect", { width: NODE.width, height: NODE.height, rx: 8 }), glyph, label)
    one.mark.addEventListener("click", (event) => {
      event.preventDefault()
      if (!dragged) app.show("unit", { unit: one.name })
    })
    one.mark.addEventListener("keydown", (event) => step(event, one))
    one.mark.addEventListener("focus", () => reveal(one))
    return one.mark
  }

  function edge(from, to) {
    const [x1, y1, x2, y2] = [from.x + NODE.width, from.y + NODE.height / 2, to.x, to.y + NODE.height / 2], bend = Math.max(30, (x2 - x1) / 2)
    return s("path", { class: "edge", "data-from": from.name, "data-to": to.name, d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` })
  }

  function colour(changed) {
    Object.assign(statuses, changed)
    for (const [name, status] of Object.entries(changed)) {
      const one = nodes.get(name)
      if (!one) continue
      const { glyph, title } = GLYPHS.get(status) ?? { glyph: "?", title: status }
      one.mark.setAttribute("class", `node ${status}${path.includes(name) ? " on-path" : ""}`)
      text(one.glyph, glyph)
      text(one.title, `${name}: ${title}`)
      one.mark.setAttribute("aria-label", `${name}: ${title}, waits for ${one.before.length}, ${one.behind.length} wait for it`)
      const listed = chain.querySelector(`[data-unit="${CSS.escape(name)}"] .state`)
      if (listed) text(listed, ` ${glyph} ${title}`)
    }
  }

  function show(names, left) {
    path = names
    const after = new Map(names.slice(1).map((name, at) => [name, names[at]]))
    for (const line of edges.children) line.classList.toggle("on-path", after.get(line.dataset.to) === line.dataset.from)
    for (const one of nodes.values()) one.mark.classList.toggle("on-path", names.includes(one.name))
    critical.hidden = names.length < 2
    const time = left === null || left === undefined ? "" : `, usually ${duration(left * 1000)}`
    text(summary, `Critical path: ${names.length} units one after the other${time}`)
    chain.replaceChildren(...names.map((name) => {
      const { glyph, title } = GLYPHS.get(statuses[name]) ?? { glyph: "", title: "" }
      return h("li", { "data-unit": name }, app.unitLink(name), h("span", { class: "state" }, ` ${glyph} ${title}`))
    }))
  }

  // -- moving about

  let dragged = false, from = null, touched = false

  function place() {
    picture.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`)
    picture.classList.toggle("far", picture.clientWidth / view.width < 0.35)
  }

  function fit() {
    touched = false
    const shape = (picture.clientHeight || 600) / (picture.clientWidth || 900)
    const width = Math.max(whole.width, whole.height / shape, 600)
    view = { x: whole.x - (width - whole.width) / 2, y: whole.y - (width * shape - whole.height) / 2, width, height: width * shape }
    place()
  }

  // Around a point of the picture, its middle unless said otherwise.
  function zoom(factor, x = view.x + view.width / 2, y = view.y + view.height / 2) {
    const by = Math.min(Math.max(view.width * factor, CLOSEST), Math.max(whole.width, whole.height, 600) * 3) / view.width
    view = { x: x - (x - view.x) * by, y: y - (y - view.y) * by, width: view.width * by, height: view.height * by }
    touched = true
    place()
  }

  function reveal(one) {
    const inside = one.x >= view.x && one.x + NODE.width <= view.x + view.width && one.y >= view.y && one.y + NODE.height <= view.y + view.height
    if (inside) return
    view = { ...view, x: one.x + NODE.width / 2 - view.width / 2, y: one.y - view.height / 2 }
    touched = true
    place()
  }

  function step(event, one) {
    const column = [...nodes.values()].filter((other) => other.column === one.column).sort((a, b) => a.row - b.row), at = column.indexOf(one)
    const near = (names) => names.map((name) => nodes.get(name)).sort((a, b) => Math.abs(a.row - one.row) - Math.abs(b.row - one.row))[0]
    const next = { ArrowLeft: near(one.before), ArrowRight: near(one.behind), ArrowUp: column[at - 1], ArrowDown: column[at + 1] }[event.key]
    if (!event.key.startsWith("Arrow")) return
    event.preventDefault()
    next?.mark.focus()
  }

  const scale = () => view.width / picture.clientWidth
  picture.addEventListener("wheel", (event) => {
    event.preventDefault()
    const box = picture.getBoundingClientRect()
    zoom(event.deltaY > 0 ? 1.15 : 1 / 1.15, view.x + (event.clientX - box.x) * scale(), view.y + (event.clientY - box.y) * scale())
  }, { passive: false })
  picture.addEventListener("pointerdown", (event) => { dragged = false; from = { x: event.clientX, y: event.clientY, view, id: event.pointerId } })
  picture.addEventListener("pointermove", (event) => {
    if (!from) return
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y]
    if (!dragged && Math.hypot(dx, dy) < 5) return
    if (!dragged) picture.setPointerCapture(from.id)
    dragged = touched = true
    view = { ...view, x: from.view.x - dx * scale(), y: from.view.y - dy * scale() }
    place()
  })
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => { from = null; setTimeout(() => { dragged = false }) })
  picture.addEventListener("dragstart", (event) => event.preventDefault())

  return {
    node,
    frame(told) {
      if (told.picture) {
        statuses = {}
        draw(told.picture)
      }
      if (told.statuses) colour(told.statuses)
      if (told.path) show(told.path, told.left)
    },
    close: () => clearTimeout(timer),
  }
}
