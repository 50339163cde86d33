// Every attempt that runs now: how healthy, how far, what it costs. Rows are keyed by unit; while the focus is in the
// table no row changes its place.

import { arrange, duration, focused, h, moment, plain, text } from "./dom.js"

const HEALTHS = [
  { name: "stuck", title: "Stuck", glyph: "■" },
  { name: "crashed", title: "Crashed", glyph: "✖" },
  { name: "stale", title: "Stale", glyph: "◐" },
  { name: "waiting", title: "Waiting", glyph: "?" },
  { name: "healthy", title: "Healthy", glyph: "●" },
]
const RANK = new Map(HEALTHS.map((one, rank) => [one.name, rank]))
const HEALTH = new Map(HEALTHS.map((one) => [one.name, one]))
const ran = (row) => (row.began === null ? row.worked : Date.now() - row.began)

// What a table can be sorted by: the value of a row, and whether the biggest comes first to begin with.
const COLUMNS = [
  { key: "unit", title: "Unit", value: (row) => row.name },
  { key: "health", title: "Health", value: (row) => RANK.get(row.health) ?? 0 },
  { key: "sign", title: "Last sign", value: (row) => -row.sign, down: true },
  { key: "ran", title: "Ran for", value: ran, down: true },
  { key: "iteration", title: "Round", value: (row) => Number(row.iteration) || 0, down: true },
  { key: "progress", title: "Progress", value: (row) => row.percent ?? -1, down: true },
  { key: "eta", title: "Left", value: (row) => row.eta ?? Infinity },
  { key: "tokens", title: "Tokens in / out", value: (row) => row.tokensIn + row.tokensOut, down: true },
  { key: "cost", title: "Cost", value: (row) => row.usd, down: true },
  { key: "session", title: "Session", value: (row) => row.session },
]
const DOES = {
  restart: { label: "Restart", title: (what) => `Restart ${what}?`, action: "Restart", past: "restarted",
    words: ["What runs is stopped, with everything it started, and the phase starts again with its session. The files of the worktree stay.",
      "What runs is stopped, with everything it started, and the phases start again with their sessions. The files of the worktrees stay."] },
  cancel: { label: "Terminate…", title: (what) => `Terminate ${what}?`, action: "Terminate", past: "terminated", danger: true,
    words: ["What runs is stopped, with everything it started, and the unit is cancelled: nothing more happens to it. Its branch and worktree stay, and it can be reopened.",
      "What runs is stopped, with everything it started, and the units are cancelled: nothing more happens to them. Their branches and worktrees stay, and they can be reopened."] },
}

const compact = (n) => (n < 10_000 ? n.toLocaleString() : n < 1e6 ? `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)}k` : `${(n / 1e6).toFixed(n < 1e8 ? 1 : 0)}M`)
const dollars = (n) => (!n ? "–" : n < 0.01 ? "<$0.01" : `$${n.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`)
const sessions = (n) => `${n.toLocaleString()} session${n === 1 ? "" : "s"}`
// The request that starts it again: one that runs is restarted, one that waits for a person gets another attempt.
const again = (row) => ({ RUNNING: "restart", NEEDS_ATTENTION: "retry" })[row.status]

export default function make(app, args) {
  const rows = new Map(), chosen = new Set()
  let filter = HEALTH.has(args.health) ? args.health : ""
  let { key: sorted, down } = asked(args.sort)
  let more = 0, settled = []

  // -- what stands above the table

  const chips = new Map(["", ...RANK.keys()].map((name) => {
    const { title = "All", glyph } = HEALTH.get(name) ?? {}
    const count = h("span", { class: "count" }, "0")
    const chip = h("button", { class: `chip health of-${name || "all"}`, onclick: () => { filter = name; keep() } },
      glyph ? h("span", { class: "glyph", "aria-hidden": "true" }, glyph) : null, title, count)
    return [name, { chip, count }]
  }))
  const choice = h("select", { onchange: () => sort(choice.value) }, ...COLUMNS.map((one) => h("option", { value: one.key }, one.title)))
  const turn = h("button", { class: "narrow-only", onclick: () => sort(sorted) })
  const legend = h("p", { class: "hint" })
  const said = h("strong", { role: "status" })
  const bulk = h("div", { class: "bulk", role: "region", "aria-label": "Selected sessions", hidden: true }, said,
    h("button", { class: "plain", onclick: () => choose([...chosen], false) }, "Clear selection"),
    h("div", { class: "buttons" }, ...Object.entries(DOES).map(([kind, does]) => h("button", { class: does.danger ? "danger" : "", onclick: () => act(kind, [...chosen]) }, does.label))))

  // -- the table

  const all = h("input", { type: "checkbox", class: "tick", "aria-label": "Select all sessions shown", onchange: () => choose(settled, all.checked) })
  const heads = new Map(COLUMNS.map((one) => {
    const arrow = h("span", { "aria-hidden": "true" })
    return [one.key, { arrow, cell: h("th", { scope: "col", role: "columnheader" }, h("button", { class: "plain", onclick: () => sort(one.key) }, one.title, arrow)) }]
  }))
  const body = h("tbody", { role: "rowgroup" })
  body.addEventListener("focusout", () => setTimeout(draw))
  const sum = { running: h("strong", {}), tokens: h("strong", {}), cost: h("strong", {}) }
  const total = (label, ...content) => h("td", { role: "cell", "data-label": label }, ...content)
  const foot = h("tfoot", { role: "rowgroup" }, h("tr", { role: "row", class: "sessions-total" }, h("td", { role: "cell" }),
    h("th", { scope: "row", role: "rowheader", colSpan: 7 }, sum.running), total("Tokens in / out", sum.tokens), total("Cost", sum.cost), h("td", { role: "cell", colSpan: 2 })))
  const table = h("table", { class: "table sessions-table", role: "table", "aria-label": "Sessions" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, h("th", { role: "columnheader" }, all), ...[...heads.values()].map((one) => one.cell),
      h("th", { role: "columnheader" }, h("span", { class: "sr" }, "Actions")))), body, foot)
  const none = h("p", { class: "hint welcome" })
  const rest = h("p", { class: "hint", hidden: true })
  const node = h("section", { class: "sessions", tabIndex: -1, "aria-label": "Sessions" }, h("h2", { class: "sr" }, "Sessions"),
    h("div", { class: "tools" }, h("div", { class: "buttons", role: "group", "aria-label": "Health" }, ...[...chips.values()].map((one) => one.chip)),
      h("label", { class: "inline narrow-only" }, "Sort by ", choice), turn),
    none, table, rest, legend, bulk)

  function asked(said = "") {
    const key = said.replace(/^-/, "")
    return COLUMNS.some((one) => one.key === key) ? { key, down: said.startsWith("-") } : { key: "health", down: false }
  }

  function sort(key) {
    down = key === sorted ? !down : Boolean(COLUMNS.find((one) => one.key === key).down)
    sorted = key
    keep(true)
  }

  function keep(anew = false) {
    app.keep({ health: filter, sort: sorted === "health" && !down ? "" : `${down ? "-" : ""}${sorted}` })
    draw(anew)
  }

  function choose(names, on) {
    for (const name of names) {
      if (on) chosen.add(name)
      else chosen.delete(name)
      rows.get(name)?.choose(on)
    }
    draw()
  }

  // Put the rows into their order. `anew`: also while the focus is in the table, because the user asked for it.
  function draw(anew = false) {
    const { value } = COLUMNS.find((one) => one.key === sorted)
    const shown = [...rows.values()].filter((row) => !filter || row.health === filter)
    const still = !anew && focused(body)
    const place = new Map(settled.map((name, at) => [name, at]))
    const worth = new Map(shown.map((row) => [row, still ? place.get(row.name) ?? Infinity : value(row)]))
    const compare = (a, b) => (worth.get(a) < worth.get(b) ? -1 : worth.get(a) > worth.get(b) ? 1 : 0) * (down && !still ? -1 : 1)
    shown.sort((a, b) => compare(a, b) || ran(b) - ran(a) || (a.name < b.name ? -1 : 1))
    settled = shown.map((row) => row.name)
    arrange(body, shown.map((row) => row.node))
    for (const [key, { cell, arrow }] of heads) {
      cell.setAttribute("aria-sort", key !== sorted ? "none" : down ? "descending" : "ascending")
      text(arrow, key !== sorted ? "" : down ? " ▾" : " ▴")
    }
    choice.value = sorted
    text(turn, down ? "▾" : "▴")
    turn.setAttribute("aria-label", down ? "Biggest first: turn the order" : "Smallest first: turn the order")
    const counts = new Map()
    for (const row of rows.values()) counts.set(row.health, (counts.get(row.health) ?? 0) + 1)
    for (const [name, { chip, count }] of chips) {
      const n = name ? counts.get(name) ?? 0 : rows.size
      text(count, n.toLocaleString())
      chip.setAttribute("aria-pressed", String(name === filter))
      chip.classList.toggle("some", n > 0)
    }
    totals(shown)
    table.hidden = !shown.length
    none.hidden = shown.length > 0
    text(none, rows.size ? `No session is ${filter}.` : "No agents run now. A unit that is ready starts as soon as there is a slot.")
    text(said, `${sessions(chosen.size)} selected`)
    bulk.hidden = !chosen.size
    all.checked = settled.length > 0 && settled.every((name) => chosen.has(name))
    all.indeterminate = !all.checked && settled.some((name) => chosen.has(name))
    rest.hidden = !more
    text(rest, `${more.toLocaleString()} more that crashed or wait are not shown here: the attention queue and the board have them.`)
  }

  function totals(shown) {
    const add = (key) => shown.reduce((sum, row) => sum + row[key], 0)
    const n = shown.filter((row) => row.status === "RUNNING").length, others = shown.length - n
    text(sum.running, `${n.toLocaleString()} running${others ? `, ${others.toLocaleString()} not` : ""}`)
    text(sum.tokens, tokens(add("tokensIn"), add("tokensOut")))
    text(sum.cost, dollars(add("usd")))
  }

  // -- actions

  async function act(kind, names, button = null) {
    const does = DOES[kind]
    const seen = names.map((name) => rows.get(name)).filter((row) => row && (kind === "cancel" || again(row)))
      .map((row) => ({ name: row.name, kind: kind === "cancel" ? kind : again(row), version: row.version }))
    if (!seen.length) return app.toast("None of these can be restarted: they start by themselves.", "error")
    const left = names.length - seen.length ? ` ${sessions(names.length - seen.length)} of the selected can't be, and stay as they are.` : ""
    const agreed = await app.confirm({ title: does.title(seen.length === 1 ? seen[0].name : sessions(seen.length)), words: does.words[seen.length === 1 ? 0 : 1] + left,
      action: seen.length === 1 ? does.action : `${does.action} ${sessions(seen.length)}`, danger: does.danger })
    if (!agreed) return
    // With the version that was seen: what has gone on to another phase meanwhile is not stopped.
    const done = await Promise.all(seen.map((one) => app.request(one.kind, one.name, {}, button, one.version)))
    const n = done.filter((one) => one.ok).length
    if (seen.length > 1 || n) app.toast(`${sessions(n)} ${does.past}${n < seen.length ? `, ${seen.length - n} not` : ""}`)
    if (!button) choose(seen.map((one) => one.name), false)
  }

  return {
    node,
    frame(told) {
      if (told.limits) {
        rows.clear()
        text(legend, words(told.limits))
      }
      for (const [name, news] of Object.entries(told.rows)) {
        if (!rows.has(name)) rows.set(name, makeRow(app, name, { act, choose: (on) => choose([name], on) }))
        rows.get(name).update(news)
      }
      for (const name of told.gone) {
        if (focused(body) && rows.get(name)?.node.contains(focused(body))) node.focus({ preventScroll: true })
        rows.delete(name)
        chosen.delete(name)
      }
      more = told.more
      draw()
    },
    tick(now) { for (const row of rows.values()) row.tick(now) },
  }
}

const tokens = (read, written) => (read || written ? `${compact(read)} / ${compact(written)}` : "–")

function words([stale, stuck]) {
  const after = [stale ? `stale after ${duration(stale)}` : "", stuck ? `stuck after ${duration(stuck)}` : ""].filter(Boolean).join(", ")
  return `${after ? `An agent that neither says nor writes anything is ${after}: the settings say so, in [health]. ` : ""}Tokens and cost are of the attempt.`
}

function makeRow(app, name, { act, choose }) {
  const box = h("input", { type: "checkbox", "aria-label": `Select ${name}`, onchange: () => choose(box.checked) })
  const under = h("div", { class: "under" }), glyph = h("span", { class: "glyph", "aria-hidden": "true" }), word = h("span", {}), why = h("div", { class: "under why" })
  const health = h("span", { class: "health" }, glyph, word)
  const sign = h("span", { class: "age" }), age = h("span", { class: "age" }), left = h("span", { class: "age" }), round = h("span", {})
  const fill = h("div", { class: "fill" }), percent = h("span", { class: "age" }), step = h("span", { class: "line" })
  const bar = h("div", { class: "progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `Progress of ${name}` }, fill)
  const used = h("span", {}), cost = h("span", {}), costs = h("div", { class: "under" })
  const session = h("code", { class: "line" }), pid = h("span", {})
  const copy = h("button", { class: "plain", "aria-label": `Copy the session of ${name}`, title: "Copy the session", onclick: async () => {
    try {
      await navigator.clipboard.writeText(row.session)
      app.toast("Session copied")
    } catch {
      app.toast("The browser lets nothing be copied from this page: select the session and copy it.", "error")
    }
  } }, "Copy")
  const restart = h("button", { "aria-label": `Restart ${name}`, onclick: () => act("restart", [name], restart) }, DOES.restart.label)
  const end = h("button", { class: "danger", "aria-label": `Terminate ${name}`, onclick: () => act("cancel", [name], end) }, DOES.cancel.label)
  const cell = (label, kind, ...content) => h("td", { role: "cell", class: kind, "data-label": label }, ...content)
  const far = cell("Progress", "far", h("div", { class: "sub" }, percent, step), bar)
  const node = h("tr", { role: "row", "data-unit": name }, h("td", { role: "cell", class: "pick" }, box),
    h("th", { scope: "row", role: "rowheader", class: "who" }, app.unitLink(name), under),
    cell("Health", "how", health, why), cell("Last sign", "", sign), cell("Ran for", "", age), cell("Round", "round", round),
    far, cell("Left", "", left),
    cell("Tokens in / out", "used", used), cell("Cost", "", cost, costs),
    cell("Session", "talk", h("div", { class: "sub" }, session), h("div", { class: "sub" }, pid, copy)),
    h("td", { role: "cell", class: "acts-cell" }, h("div", { class: "buttons" }, restart, end)))

  const row = {
    name,
    node,
    choose(on) { box.checked = on },
    update(news) {
      Object.assign(row, news)
      const known = HEALTH.get(row.health)
      text(under, [row.phase, `attempt ${row.attempt}`, row.agent].filter(Boolean).join(" · "))
      node.className = health.className = `health of-${row.health}`
      text(glyph, known.glyph)
      text(word, known.title)
      text(why, plain(row.why))
      why.title = plain(row.why)
      text(round, plain(row.iteration) || "–")
      round.title = plain(row.iteration)
      text(percent, row.percent === null ? "" : `${Math.round(row.percent)} %`)
      text(step, plain(row.step))
      step.title = plain(row.step)
      bar.classList.toggle("unknown", row.percent === null && row.status === "RUNNING")
      bar.hidden = row.percent === null && row.status !== "RUNNING"
      far.classList.toggle("empty", bar.hidden && !row.step)
      fill.style.width = row.percent === null ? "" : `${row.percent}%`
      if (row.percent === null) bar.removeAttribute("aria-valuenow")
      else bar.setAttribute("aria-valuenow", Math.round(row.percent))
      text(used, tokens(row.tokensIn, row.tokensOut))
      used.title = `${row.tokensIn.toLocaleString()} in, ${row.tokensOut.toLocaleString()} out; the unit in all ${row.unitTokens.toLocaleString()}`
      text(cost, dollars(row.usd))
      text(costs, row.unitUsd > row.usd + 0.005 ? `unit ${dollars(row.unitUsd)}` : "")
      text(session, plain(row.session) || "–")
      session.title = plain(row.session)
      copy.hidden = !row.session
      text(pid, row.pid === null ? "" : `pid ${row.pid}`)
      restart.hidden = !again(row)
      row.tick(Date.now())
    },
    tick(now) {
      text(sign, `${duration(now - row.sign)} ago`)
      sign.title = moment(row.sign)
      text(age, duration(row.began === null ? row.worked : now - row.began))
      text(left, row.eta === null ? "–" : row.eta > now ? `~${duration(row.eta - now)}` : "any time")
      left.title = row.eta === null ? "Nothing is known of how long it takes" : row.eta > now ? `about ${moment(row.eta)}` : "It takes longer than usual"
    },
  }
  return row
}
