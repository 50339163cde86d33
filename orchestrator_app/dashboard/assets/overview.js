// The first page: how many units stand where, what needs a person, what runs, how fast, and what went wrong.

import { makeQueue } from "./attention.js"
import { arrange, clock, duration, h, plain, STATUSES, text } from "./dom.js"

const SVG = "http://www.w3.org/2000/svg"

export default function make(app) {
  const tiles = new Map(STATUSES.map((status) => {
    const count = h("span", { class: "number" }, "0")
    const tile = app.link("board", { q: `status:${status.name}` }, count,
      h("span", { class: "word" }, h("span", { class: "glyph", "aria-hidden": "true" }, status.glyph), status.title))
    tile.className = `tile ${status.name}`
    return [status.name, { tile, count }]
  }))
  const welcome = h("p", { class: "hint welcome", hidden: true },
    "No work units yet. Submit one with the button above, or in a terminal: orch submit my-change -p \"what to do\"")
  const queue = makeQueue(app), running = makeRunning(app), hour = makeHour(), errors = makeErrors(app)
  const node = h("section", { class: "overview" },
    h("div", { class: "tiles" }, ...[...tiles.values()].map((one) => one.tile)), welcome,
    h("div", { class: "columns" }, h("div", { class: "main-column" }, queue.node), h("div", { class: "side-column" }, running.node, hour.node, errors.node)))

  function counts() {
    const now = app.head?.counts ?? {}
    for (const [name, { tile, count }] of tiles) {
      text(count, (now[name] ?? 0).toLocaleString())
      tile.classList.toggle("some", (now[name] ?? 0) > 0)
    }
    welcome.hidden = Object.values(now).some(Boolean)
  }

  return {
    node,
    head: counts,
    frame(told) {
      if (told.queue) queue.apply(told.queue)
      if (told.running) running.apply(told.running)
      if (told.hour) {
        hour.apply(told.hour)
        errors.apply(told.hour.errors)
      }
    },
    told: queue.told,
    tick(now) {
      queue.tick(now)
      running.tick(now)
      errors.tick(now)
    },
  }
}

function makeRunning(app) {
  const list = h("div", { class: "cards" }), none = h("p", { class: "hint" }, "Nothing runs now.")
  const more = app.link("sessions", {}, "")
  const rows = new Map()
  const node = h("section", { class: "panel", "aria-label": "Running now" }, h("h2", {}, "Running now"), none, list, more)

  function row(name) {
    const phase = h("span", { class: "phase" }), age = h("span", { class: "age" }), line = h("span", { class: "line" }), eta = h("span", { class: "age" })
    const fill = h("div", { class: "fill" })
    const bar = h("div", { class: "progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `Progress of ${name}` }, fill)
    const card = h("div", { class: "card" }, h("div", { class: "top" }, app.unitLink(name), age), h("div", { class: "sub" }, phase, line, eta), bar)
    return {
      card,
      update(unit) {
        this.unit = unit
        text(phase, unit.phase)
        text(line, plain(unit.step))
        line.title = unit.step
        bar.classList.toggle("unknown", unit.percent === null)
        fill.style.width = unit.percent === null ? "" : `${unit.percent}%`
        if (unit.percent === null) bar.removeAttribute("aria-valuenow")
        else bar.setAttribute("aria-valuenow", Math.round(unit.percent))
        this.tick(Date.now())
      },
      tick(now) {
        text(age, duration(now - this.unit.since))
        text(eta, this.unit.ends ? `about ${duration(this.unit.ends - now)} left` : "")
      },
    }
  }

  return {
    node,
    apply({ order, units, more: hidden }) {
      for (const [name, unit] of Object.entries(units)) {
        if (!rows.has(name)) rows.set(name, row(name))
        rows.get(name).update(unit)
      }
      for (const name of rows.keys()) if (!order.includes(name)) rows.delete(name)
      arrange(list, order.map((name) => rows.get(name).card))
      none.hidden = order.length > 0
      more.hidden = hidden <= 0
      text(more, `${hidden} more run: see all sessions`)
    },
    tick: (now) => { for (const one of rows.values()) one.tick(now) },
  }
}

// Units that became done, minute by minute.
function makeHour() {
  const said = h("p", { class: "hint" }), WIDTH = 600, HEIGHT = 64
  const picture = document.createElementNS(SVG, "svg")
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`)
  picture.setAttribute("preserveAspectRatio", "none")
  picture.setAttribute("class", "spark")
  picture.setAttribute("role", "img")
  const node = h("section", { class: "panel", "aria-label": "Throughput" }, h("h2", {}, "Done in the last hour"), picture, said)
  return {
    node,
    apply({ from, done }) {
      const most = Math.max(1, ...done), step = WIDTH / done.length
      const sum = done.reduce((a, b) => a + b, 0)
      picture.replaceChildren(...done.map((n, i) => {
        const bar = document.createElementNS(SVG, "rect"), height = n ? Math.max(2, n / most * HEIGHT) : 1
        for (const [name, value] of Object.entries({ x: i * step + 1, y: HEIGHT - height, width: step - 2, height })) bar.setAttribute(name, value)
        bar.setAttribute("class", n ? "bar" : "bar none")
        const title = document.createElementNS(SVG, "title")
        title.textContent = `${clock(from + i * 60000).slice(0, 5)}: ${n} done`
        bar.append(title)
        return bar
      }))
      picture.setAttribute("aria-label", `${sum} units done in the last hour, at most ${most} in a minute`)
      text(said, sum ? `${sum.toLocaleString()} in the last hour · ${done.at(-2) ?? 0} in the last full minute · most in a minute ${most}` : "None yet.")
    },
  }
}

// What went wrong most often in the last hour.
function makeErrors(app) {
  const list = h("ol", { class: "top-errors" }), none = h("p", { class: "hint" }, "None in the last hour.")
  const all = app.link("errors", {}, "All errors")
  const rows = new Map()
  const node = h("section", { class: "panel", "aria-label": "Errors of the last hour" }, h("h2", {}, "Errors of the last hour"), none, list, all)

  function row(key) {
    const message = h("span", { class: "message" }), count = h("b", {}), age = h("span", { class: "age" }), whose = h("span", {})
    const link = app.link("errors", { range: "hour", error: key }, message)
    return {
      node: h("li", {}, count, h("div", {}, link, h("div", { class: "meta" }, whose, age))),
      update(one) {
        this.last = one.last
        text(count, `${one.count.toLocaleString()}×`)
        text(message, plain(one.message).slice(0, 300))
        const rest = one.total - one.units.length
        whose.replaceChildren(...one.units.map(app.unitLink), rest > 0 ? ` and ${rest} more` : "")
        this.tick(Date.now())
      },
      tick(now) { text(age, `${duration(now - this.last)} ago`) },
    }
  }

  return {
    node,
    apply(found) {
      for (const one of found) {
        if (!rows.has(one.key)) rows.set(one.key, row(one.key))
        rows.get(one.key).update(one)
      }
      const keys = found.map((one) => one.key)
      for (const key of rows.keys()) if (!keys.includes(key)) rows.delete(key)
      arrange(list, keys.map((key) => rows.get(key).node))
      none.hidden = found.length > 0
    },
    tick: (now) => { for (const one of rows.values()) one.tick(now) },
  }
}
