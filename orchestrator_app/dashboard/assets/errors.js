// What went wrong, grouped by message; a dialog with the whole error, its log excerpt and what to do.

import { arrange, duration, h, moment, plain, text } from "./dom.js"

const RANGES = [["hour", "Last hour"], ["day", "Last day"], ["week", "Last week"], ["all", "Ever"]]
const KINDS = {
  fail: "failed", defer: "retried", lose: "lost", stall: "stalled", clash: "merge conflict", exceed: "budget spent", said: "reported",
}
const MINUTES = 5

const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`

function spark(bars) {
  const most = Math.max(...bars, 1)
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg")
  const said = `${bars.reduce((sum, bar) => sum + bar, 0).toLocaleString("en")} in the last hour`
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${bars.length * 7} 24`, class: "errors-spark", role: "img", "aria-label": said })) svg.setAttribute(name, value)
  bars.forEach((bar, at) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect")
    const high = bar ? Math.max(2, (bar / most) * 22) : 1
    for (const [name, value] of Object.entries({ x: at * 7, y: 24 - high, width: 5, height: high, class: bar ? "" : "none" })) rect.setAttribute(name, value)
    svg.append(rect)
  })
  const title = document.createElementNS("http://www.w3.org/2000/svg", "title")
  title.textContent = `${said}, by ${MINUTES} minutes`
  svg.append(title)
  return svg
}

export default function make(app, args) {
  let range = RANGES.some(([name]) => name === args.range) ? args.range : "day"
  let typing = null, opened = null, newest = null, left = false
  const groups = new Map() // key -> what stands for it

  const chooser = h("select", { "aria-label": "Time range", onchange: wish }, ...RANGES.map(([name, title]) => h("option", { value: name }, title)))
  chooser.value = range
  const order = h("select", { "aria-label": "Order", onchange: wish }, h("option", { value: "" }, "Most frequent first"), h("option", { value: "last" }, "Newest first"))
  order.value = args.order === "last" ? "last" : ""
  const search = h("input", { type: "search", class: "search", placeholder: "Search messages and units", "aria-label": "Search the errors", value: args.text ?? "",
    oninput: () => { clearTimeout(typing); typing = setTimeout(wish, 250) } })
  const total = h("p", { class: "hint", role: "status" }, "Loading…")
  const list = h("ul", { class: "errors-list", "aria-label": "Errors by message" })
  const node = h("section", { class: "errors" }, h("div", { class: "tools" }, h("h2", {}, "Errors"), chooser, order, search), total, list)

  const chosen = () => ({ range: chooser.value === "day" ? "" : chooser.value, order: order.value, text: search.value.trim() })
  const keep = () => app.keep({ ...chosen(), error: opened?.key ?? "" })
  function wish() {
    clearTimeout(typing)
    keep()
    app.say({ ask: "range", ...chosen() })
  }

  function makeGroup(key) {
    const badge = h("span", { class: "badge of-error" }), message = h("button", { class: "plain errors-message", onclick: () => open(key) })
    const sample = h("p", { class: "errors-sample" }), many = h("span", { class: "errors-count" }), times = h("span", {}), units = h("span", { class: "errors-units" })
    const chart = h("span", {})
    const row = h("li", { class: "errors-group", onclick: (event) => { if (!event.target.closest("a, button") && !getSelection().toString()) open(key) } },
      h("div", { class: "errors-number" }, many, chart), h("div", { class: "errors-words" }, h("div", { class: "errors-head" }, badge, message), sample,
        h("div", { class: "meta" }, times, units)))
    let said = "", bars = ""
    return {
      row,
      show(group) {
        text(badge, KINDS[group.kind] ?? group.kind)
        badge.classList.toggle("of-error", group.kind === "fail" || group.kind === "said")
        badge.classList.toggle("of-blocked", group.kind !== "fail" && group.kind !== "said")
        text(message, plain(group.message))
        text(sample, plain(group.sample))
        sample.hidden = sample.textContent === message.textContent
        text(many, `${group.count.toLocaleString("en")}×`)
        const names = JSON.stringify([group.units, group.total])
        if (names !== said && !units.contains(node.getRootNode().activeElement)) {
          said = names
          const shown = group.units.slice(0, 3)
          units.replaceChildren(...shown.flatMap((name, at) => [at ? ", " : "", app.unitLink(name)]),
            group.total > shown.length ? ` and ${count(group.total - shown.length, "more unit")}` : group.total ? "" : "the project")
        }
        if (JSON.stringify(group.bars) !== bars) {
          bars = JSON.stringify(group.bars)
          chart.replaceChildren(spark(group.bars))
        }
        this.group = group
        this.age(Date.now())
      },
      age(now) {
        const { first, last, count } = this.group
        const ago = `${duration(now - last)} ago`
        text(times, count > 1 ? `last ${ago}, first ${duration(now - first)} ago` : ago)
        times.title = `first ${new Date(first)}\nlast ${new Date(last)}`
      },
    }
  }

  function paint() {
    const { errors, groups: many, found } = newest
    const range = RANGES.find(([name]) => name === chooser.value)[1].toLowerCase()
    const within = range === "ever" ? "" : ` in the ${range}`
    text(total, !errors ? search.value.trim() ? `Nothing${within} fits the search.` : `Nothing went wrong${within}.`
      : `${count(errors, "error")} in ${count(many, "group")}${within}${many > found.length ? `; the first ${found.length} are shown` : ""}`)
    const rows = found.map((group) => {
      if (!groups.has(group.key)) groups.set(group.key, makeGroup(group.key))
      const one = groups.get(group.key)
      one.show(group)
      return one.row
    })
    const kept = new Set(found.map((group) => group.key))
    for (const key of groups.keys()) if (!kept.has(key)) groups.delete(key)
    arrange(list, rows)
  }

  function open(key) {
    if (opened) return
    const content = h("div", { class: "errors-detail", role: "status" }, "Loading…")
    opened = { key, content }
    opened.close = app.dialog("Error", content, { wide: true, closed: () => { opened = null; if (!left) keep() } })
    keep()
    app.say({ ask: "detail", key })
  }

  function detailed(found) {
    const newest = found.occurrences[0], n = found.stopped
    const retry = h("button", { class: "primary", onclick: async () => {
      const agreed = n === 1 || await app.confirm({ title: `Retry ${n} units?`, action: `Retry ${n} units`,
        words: "Each starts its phase again as soon as a slot is free. Units that were changed meanwhile are left as they are." })
      if (!agreed) return
      retry.disabled = true
      app.say({ ask: "retry", key: found.key })
    } }, n === 1 ? "Retry the 1 unit of this error" : `Retry all ${n.toLocaleString("en")} units of this error`)
    const others = found.occurrences.map((one) => h("li", {}, h("time", { title: new Date(one.at).toString() }, moment(one.at)), " ",
      one.unit ? app.unitLink(one.unit) : "project", one.phase ? ` ${one.phase}` : "", one.attempt ? ` #${one.attempt}` : "",
      h("details", {}, h("summary", {}, plain(one.words).split("\n")[0].slice(0, 160)), whole(one))))
    return [
      h("p", { class: "errors-title" }, h("span", { class: "badge of-error" }, KINDS[found.kind] ?? found.kind), " ", plain(found.message)),
      h("p", { class: "meta" }, `${found.count.toLocaleString("en")}×, first ${moment(found.first)}, last ${moment(newest.at)}`),
      h("h3", {}, "What to do"), h("p", { class: "errors-advice" }, found.advice),
      h("div", { class: "buttons" }, newest.unit ? h("button", { onclick: () => app.show("unit", { unit: newest.unit }) }, "Open the unit") : null, n && !app.viewer ? retry : null),
      h("h3", {}, "The newest"), h("p", { class: "meta" }, newest.unit ? app.unitLink(newest.unit) : "the project",
        newest.phase ? h("span", {}, `${newest.phase}, attempt ${newest.attempt}`) : null, h("span", {}, newest.actor)), whole(newest, found.excerpt),
      h("h3", {}, found.excerpt ? `The end of its output${found.excerpt.whole ? "" : " (the unit's page has all of it)"}` : "Output"),
      found.excerpt ? h("pre", { class: "words open errors-log", tabIndex: 0, "aria-label": "The end of the output" }, plain(found.excerpt.text))
        : h("p", { class: "hint" }, "There is no output of this attempt."),
      found.occurrences.length > 1 ? h("h3", {}, `The newest ${found.occurrences.length}`) : null,
      found.occurrences.length > 1 ? h("ul", { class: "errors-others" }, ...others) : null,
    ].filter(Boolean)
  }
  function whole(one, excerpt = null) {
    const data = one.data && one.data !== "{}" ? one.data : null
    const repeated = one.item && (one.item === one.words || excerpt?.text.trim().endsWith(one.item.trim()))
    return h("div", {}, h("pre", { class: "words open" }, plain(one.words)),
      one.item && !repeated ? h("pre", { class: "words open" }, plain(one.item)) : null, data ? h("pre", { class: "words open" }, plain(data)) : null)
  }

  const asked = args.error
  if (asked) queueMicrotask(() => open(asked))
  return {
    node,
    frame(payload) {
      newest = payload
      paint()
    },
    told(said) {
      if ("retried" in said) {
        if (said.retried) app.toast(`${count(said.retried, "unit")} will be tried again`)
        if (said.refused) app.toast(`${count(said.refused, "unit")} could not be retried: ${said.why}`, "error")
        if (opened?.key === said.key) app.say({ ask: "detail", key: said.key })
      } else if (opened?.key === said.key) {
        opened.content.removeAttribute("role")
        opened.content.replaceChildren(...(said.detail ? detailed(said.detail) : [h("p", {}, said.text)]))
      }
    },
    tick(now) {
      for (const one of groups.values()) one.age(now)
    },
    close() {
      left = true
      clearTimeout(typing)
      opened?.close()
    },
  }
}
