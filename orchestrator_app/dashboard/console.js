// The browser's half of the console. Frames change what is keyed; nothing is drawn anew, so focus, scroll position and
// half-typed text stay. Everything said by units and agents becomes text nodes, never HTML.

const ORDER = ["NEEDS_ATTENTION", "RUNNING", "READY", "BLOCKED", "PAUSED", "DONE", "CANCELLED"]
const TITLES = {
  NEEDS_ATTENTION: "Needs attention", RUNNING: "Running", READY: "Ready", BLOCKED: "Blocked", PAUSED: "Paused",
  DONE: "Done", CANCELLED: "Cancelled",
}
const GLYPHS = {
  NEEDS_ATTENTION: "!", RUNNING: "▶", READY: "○", BLOCKED: "…", PAUSED: "||", DONE: "✓", CANCELLED: "✕",
}
const KINDS = {
  question: "Question", approval: "Approval", conflict: "Conflict", error: "Error", stall: "Silent", budget: "Budget",
  blocked: "Blocked",
}
const ENDED = new Set(["DONE", "CANCELLED"])
const SHOWN = 60 // cards of a column at first
const PING = 2000
const SILENCE = 6000 // without a word from the server for so long, what is shown is stale
const LOG_LINES = 3000

function h(tag, props = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value)
    else if (name === "class") node.className = value
    else if (name in node && name !== "list") node[name] = value
    else node.setAttribute(name, value)
  }
  node.append(...children.filter((child) => child !== null && child !== undefined))
  return node
}

function text(node, value) {
  const wanted = value ?? ""
  if (node.textContent !== wanted) node.textContent = wanted
}

function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000))
  if (s < 60) return `${s}s`
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`
  if (s < 86400) return `${Math.floor(s / 3600)}h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}m`
  return `${Math.floor(s / 86400)}d ${Math.floor((s % 86400) / 3600)}h`
}

const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false })

// Put `nodes` into `parent` in this order, moving only what is out of place.
function arrange(parent, nodes) {
  let at = parent.firstElementChild
  for (const node of nodes) {
    if (node === at) at = at.nextElementSibling
    else parent.insertBefore(node, at)
  }
  while (at) {
    const next = at.nextElementSibling
    at.remove()
    at = next
  }
}

// Terminal colours and other control characters say nothing here.
const plain = (raw) => raw.replace(/\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b./g, "")
  .replace(/[^\n]*\r(?!\n)/g, "").replace(/[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]/g, "·")

export function render({ model, el }) {
  const units = new Map(), items = new Map()
  let head = null, asked = 0, lastHeard = Date.now(), latency = null, lost = false, filter = ""
  const waiting = new Map() // id of a request -> what to do with its answer

  // -- talking to the server

  const say = (message) => { try { model.send_msg(message) } catch { /* the connection is gone; the strip says so */ } }

  function request(kind, unit, args, button) {
    if (button) button.disabled = true
    const id = ++asked
    return new Promise((resolve) => {
      waiting.set(id, (ok, why) => {
        if (button) button.disabled = false
        if (!ok) toast(why, "error")
        resolve(ok)
      })
      say({ type: "do", id, kind, unit, args })
    })
  }

  function toast(words, kind = "info") {
    const node = h("div", { class: `toast is-${kind}`, role: kind === "error" ? "alert" : "status" }, words,
      h("button", { class: "plain", title: "Dismiss", "aria-label": "Dismiss", onclick: () => node.remove() }, "✕"))
    toasts.append(node)
    while (toasts.childElementCount > 4) toasts.firstElementChild.remove()
    if (kind !== "error") setTimeout(() => node.remove(), 5000)
  }

  // -- the strip: connection, attention, slots, dispatch

  const dot = h("span", { class: "dot" }), link = h("span", {}, "connecting")
  const connection = h("span", { class: "chip connection", title: "Connection to the server" }, dot, link)
  const attention = h("a", { class: "chip attention", href: "#", "aria-live": "polite",
    onclick: (event) => { event.preventDefault(); show(""); queue.scrollIntoView({ block: "start" }) } })
  const slots = h("span", { class: "chip", title: "Units running, of the slots there are" })
  const doneCount = h("span", { class: "chip", title: "Units that are done" })
  const pause = h("button", { class: "quiet", onclick: () => request("dispatch", null, { paused: !head.paused }, pause) })
  const fault = h("div", { class: "banner", role: "alert", hidden: true })
  const stale = h("div", { class: "banner stale", role: "status", hidden: true })
  const strip = h("div", { class: "strip" }, connection, attention, slots, doneCount, h("span", { class: "gap" }), pause)
  const toasts = h("div", { class: "toasts" })

  function drawHead() {
    const n = head.attention
    text(attention, n ? `! ${n} need${n === 1 ? "s" : ""} attention` : "Nothing needs attention")
    attention.classList.toggle("some", n > 0)
    text(slots, `${head.running} of ${head.slots} slots`)
    text(doneCount, `${head.counts.DONE} done`)
    text(pause, head.paused ? "Resume dispatch" : "Pause dispatch")
    pause.classList.toggle("on", head.paused)
    pause.title = head.paused ? "Nothing new is started" : "Start nothing new; what runs goes on"
    const degraded = head.state !== "ok"
    fault.hidden = !degraded
    text(fault, degraded ? head.state : "")
    document.title = `${n ? `(${n}) ` : ""}Orchestrator · ${head.project}`
    for (const status of ORDER) drawCount(status)
    text(queueCount, n ? String(n) : "")
    quiet.hidden = n > 0
    welcome.hidden = ORDER.some((status) => head.counts[status])
  }

  function drawConnection() {
    const silent = Date.now() - lastHeard
    const fresh = silent < SILENCE && !lost
    dot.className = `dot ${fresh ? "live" : "gone"}`
    text(link, fresh ? (latency === null ? "live" : `live · ${Math.max(1, Math.round(latency * 1000))} ms`) : "reconnecting")
    stale.hidden = fresh
    if (!fresh) text(stale, `The connection is lost. What you see is from ${clock(lastHeard)}; it comes back by itself, and what you typed stays.`)
  }

  // -- attention items

  const queueCount = h("span", { class: "count" })
  const quiet = h("p", { class: "hint" }, "Nothing waits for you. Questions, approvals, conflicts and errors show up here.")
  const list = h("div", { class: "items" })
  const queue = h("section", { class: "queue", "aria-label": "Attention queue" },
    h("h2", {}, "Attention ", queueCount), quiet, list)

  const draftKey = (id, field) => `orch-draft:${head ? head.project : ""}:${id}:${field}`

  function field(id, name, props) {
    const node = h(props.rows ? "textarea" : "input", props)
    node.value = sessionStorage.getItem(draftKey(id, name)) ?? ""
    node.addEventListener("input", () => sessionStorage.setItem(draftKey(id, name), node.value))
    return node
  }

  function forget(id) {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(draftKey(id, ""))) sessionStorage.removeItem(key)
  }

  function itemCard(id, item) {
    const age = h("span", {}), blocks = h("span", {}), title = h("strong", {}), words = h("pre", { class: "words" })
    const more = h("button", { class: "plain", hidden: true, onclick: () => {
      const open = words.classList.toggle("open")
      text(more, open ? "Show less" : "Show all")
    } }, "Show all")
    const files = h("ul", { class: "files" })
    const act = (kind, args, button) => request(kind, item.unit, args, button).then((ok) => { if (ok) forget(id) })
    const node = h("article", { class: `item is-${item.severity}`, "aria-label": item.title },
      h("header", {}, h("span", { class: `badge of-${item.kind}` }, KINDS[item.kind] ?? item.kind), title),
      h("div", { class: "meta" }, unitLink(item.unit), h("span", {}, item.phase), age, blocks),
      words, more, files, form(id, item, act))
    const card = {
      node,
      update(now) {
        text(title, now.title)
        text(words, plain(now.text))
        words.hidden = !now.text || now.title.endsWith(now.text)
        more.hidden = words.hidden || (now.text.length < 400 && now.text.split("\n").length < 7)
        if (files.childElementCount !== now.files.length) files.replaceChildren(...now.files.map((file) => h("li", {}, file)))
        text(blocks, now.blocks ? `${now.blocks} wait${now.blocks === 1 ? "s" : ""} for it` : "")
        card.rank = [-now.blocks, id]
        card.opened = now.opened
      },
      tick: (now) => text(age, `${duration(now - card.opened)} ago`),
    }
    card.update(item)
    card.tick(Date.now())
    return card
  }

  function form(id, item, act) {
    const rows = h("div", { class: "form" })
    const button = (label, kind, args, style = "") => {
      const node = h("button", { class: style, onclick: () => { const values = args(); if (values) act(kind, values, node) } }, label)
      return node
    }
    if (item.kind === "approval") {
      const why = field(id, "why", { rows: 2, placeholder: "Why not, or what to change (for a rejection)", "aria-label": `Feedback for ${item.unit}` })
      rows.append(why, h("div", { class: "buttons" },
        button("Approve", "approve", () => ({ item: id }), "primary"),
        button("Reject", "reject", () => ({ item: id, feedback: why.value }))))
    } else if (item.answered) {
      const answer = field(id, "answer", { rows: 2, placeholder: "Your answer", "aria-label": `Answer to ${item.unit}` })
      const options = item.kind === "stall"
        ? [button("Let it wait", "answer", () => ({ item: id, text: "wait" }), "primary"),
          confirmed("Stop and retry", "answer", () => ({ item: id, text: "retry" }), act),
          confirmed("Cancel", "answer", () => ({ item: id, text: "cancel" }), act)]
        : item.options.map((option) => button(option, "answer", () => ({ item: id, text: option })))
      if (options.length) rows.append(h("div", { class: "buttons options" }, ...options))
      if (item.kind !== "stall") {
        rows.append(answer, h("div", { class: "buttons" }, button("Answer", "answer", () => {
          if (!answer.value.trim()) { answer.focus(); return null }
          return { item: id, text: answer.value }
        }, "primary")))
        answer.addEventListener("keydown", (event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) rows.querySelector(".primary").click()
        })
      }
    } else if (item.overlap) {
      rows.append(h("div", { class: "buttons" },
        button(`Serialize: after ${item.other}`, "resolve", () => ({ other: item.other, ruling: "serialize" }), "primary"),
        button("Parallelize: both at once", "resolve", () => ({ other: item.other, ruling: "parallelize" }))))
    } else if (item.kind === "blocked") {
      rows.append(h("div", { class: "buttons" }, unitLink(item.other), confirmed(`Cancel ${item.unit}`, "cancel", () => ({}), act)))
    } else {
      const phase = h("select", { "aria-label": "From which phase" },
        ...item.phases.map((name) => h("option", { value: name, selected: name === item.phase }, name === item.phase ? `${name} (this one)` : name)))
      const feedback = field(id, "feedback", { rows: 2, placeholder: "Feedback for the next attempt (optional)", "aria-label": `Feedback for ${item.unit}` })
      const reason = field(id, "reason", { placeholder: "Reason to accept it as done", "aria-label": `Reason to accept ${item.unit}` })
      rows.append(feedback, h("div", { class: "buttons" },
        button("Retry", "retry", () => ({ phase: phase.value === item.phase ? null : phase.value, feedback: feedback.value.trim() || null }), "primary"),
        h("label", { class: "inline" }, "from ", phase)),
      h("div", { class: "buttons" }, reason, button("Accept", "accept", () => {
        if (!reason.value.trim()) { reason.focus(); return null }
        return { reason: reason.value }
      }), confirmed("Cancel", "cancel", () => ({}), act)))
    }
    return rows
  }

  // A button that destroys asks once more, in place.
  function confirmed(label, kind, args, act) {
    let armed = 0
    const node = h("button", { class: "danger", onclick: () => {
      if (Date.now() - armed < 4000) { armed = 0; text(node, label); act(kind, args(), node); return }
      armed = Date.now()
      text(node, `${label}: sure?`)
      setTimeout(() => { if (Date.now() - armed >= 4000) text(node, label) }, 4100)
    } }, label)
    return node
  }

  const cards = new Map()
  function drawItem(id, item) {
    if (item === null) {
      cards.get(id)?.node.remove()
      cards.delete(id)
      forget(id)
      items.delete(id)
    } else {
      items.set(id, item)
      if (cards.has(id)) cards.get(id).update(item)
      else cards.set(id, itemCard(id, item))
    }
  }

  function arrangeItems() {
    const sorted = [...cards.values()].sort((a, b) => a.rank[0] - b.rank[0] || a.rank[1] - b.rank[1])
    // A card in which somebody types is not moved: moving it would take the focus away.
    const active = list.getRootNode().activeElement
    if (active && list.contains(active) && sorted.length === list.childElementCount && sorted.every((card) => card.node.isConnected)) return
    if (active && list.contains(active)) {
      for (const card of sorted) if (!card.node.isConnected) list.append(card.node)
      return
    }
    arrange(list, sorted.map((card) => card.node))
  }

  // -- the board

  const search = h("input", { type: "search", class: "search", placeholder: "Filter by name, label, phase or agent", "aria-label": "Filter units",
    oninput: () => { filter = search.value.trim().toLowerCase(); for (const status of ORDER) drawColumn(status) } })
  const columns = new Map()
  for (const status of ORDER) {
    const count = h("span", { class: "count" }), body = h("div", { class: "cards" })
    const more = h("button", { class: "plain more", hidden: true, onclick: () => {
      const column = columns.get(status)
      column.cap += 100
      say({ type: "more", status, count: column.cap })
      drawColumn(status)
    } })
    const node = h("section", { class: `column ${status}`, "aria-label": TITLES[status] },
      h("h3", {}, h("span", { class: "glyph" }, GLYPHS[status]), TITLES[status], " ", count), body, more)
    columns.set(status, { node, count, body, more, cap: SHOWN, wanted: 0 })
  }
  const welcome = h("p", { class: "hint welcome", hidden: true },
    "No work units yet. Submit one with the button above, or in a terminal: orch submit my-change -p \"what to do\"")
  const board = h("section", { class: "board", "aria-label": "Board" }, ...[...columns.values()].map((column) => column.node))

  function drawCount(status) {
    const column = columns.get(status), n = head.counts[status] ?? 0
    text(column.count, String(n))
    column.node.hidden = n === 0 && (status === "PAUSED" || status === "CANCELLED")
    column.node.classList.toggle("empty", n === 0)
  }

  function unitLink(name) {
    return h("a", { href: `?unit=${encodeURIComponent(name)}`, class: "unit-link", onclick: (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return
      event.preventDefault()
      show(name)
    } }, name)
  }

  function unitCard(name) {
    const link = unitLink(name), phase = h("span", { class: "phase" }), age = h("span", { class: "age" })
    const bar = h("div", { class: "fill" }), progress = h("div", { class: "progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `Progress of ${name}` }, bar)
    const line = h("div", { class: "line" }), tags = h("div", { class: "tags" })
    const node = h("div", { class: "card" }, h("div", { class: "top" }, link, age), h("div", { class: "sub" }, phase, line), progress, tags)
    let shownTags = ""
    return {
      node,
      update(unit) {
        text(phase, unit.phase)
        const later = unit.notBefore && unit.notBefore > Date.now() ? `not before ${clock(unit.notBefore)}` : ""
        const waits = unit.waiting ? `waits for ${unit.waits.slice(0, 2).join(", ")}${unit.waiting > 2 ? ` and ${unit.waiting - 2} more` : ""}` : ""
        const words = unit.status === "RUNNING" ? unit.step : unit.status === "BLOCKED" ? waits : later || (unit.status === "READY" ? "" : unit.reason)
        text(line, words)
        line.title = words ?? ""
        progress.hidden = unit.status !== "RUNNING"
        progress.classList.toggle("unknown", unit.percent === null)
        bar.style.width = unit.percent === null ? "" : `${unit.percent}%`
        if (unit.percent !== null) progress.setAttribute("aria-valuenow", Math.round(unit.percent))
        const tagged = [
          unit.attempt > 1 ? `attempt ${unit.attempt}` : "", unit.priority ? `priority ${unit.priority}` : "",
          unit.blocks && !ENDED.has(unit.status) ? `${unit.blocks} wait${unit.blocks === 1 ? "s" : ""} for it` : "", ...unit.labels.map((label) => `#${label}`),
        ].filter(Boolean)
        if (tagged.join("\n") !== shownTags) {
          shownTags = tagged.join("\n")
          tags.replaceChildren(...tagged.map((tag) => h("span", { class: "tag" }, tag)))
        }
        this.unit = unit
      },
      tick(now) { if (this.unit.since) text(age, ENDED.has(this.unit.status) ? clock(this.unit.since) : duration(now - this.unit.since)) },
    }
  }

  const SORTS = {
    RUNNING: (a, b) => a[1].since - b[1].since, NEEDS_ATTENTION: (a, b) => a[1].since - b[1].since,
    DONE: (a, b) => b[1].since - a[1].since, CANCELLED: (a, b) => b[1].since - a[1].since,
  }
  const byTurn = (a, b) => b[1].blocks - a[1].blocks || b[1].priority - a[1].priority || a[1].order - b[1].order
  const byStatus = new Map(ORDER.map((status) => [status, new Map()]))

  function matches(name, unit) {
    return !filter || [name, unit.phase, unit.agent ?? "", ...unit.labels].some((part) => part.toLowerCase().includes(filter))
  }

  function drawColumn(status) {
    const column = columns.get(status), known = byStatus.get(status)
    const sorted = [...known].filter(([name, unit]) => matches(name, unit)).sort(SORTS[status] ?? byTurn)
    const now = Date.now(), nodes = []
    for (const [name, unit] of sorted.slice(0, column.cap)) {
      unit.card ??= unitCard(name)
      unit.card.update(unit)
      unit.card.tick(now)
      nodes.push(unit.card.node)
    }
    arrange(column.body, nodes)
    const total = filter ? sorted.length : head?.counts[status] ?? 0
    column.more.hidden = total <= nodes.length
    text(column.more, `Show more (${total - nodes.length} not shown)`)
    // Units that left made room for others that this page was never told of.
    if (!filter && head && known.size < Math.min(column.cap, total) && now - column.wanted > 1000) {
      column.wanted = now
      say({ type: "more", status, count: column.cap })
    }
    if (ENDED.has(status)) for (const [name] of sorted.slice(column.cap * 3)) { known.delete(name); units.delete(name) }
  }

  function keepUnit(name, unit, touched) {
    const old = units.get(name)
    if (old) {
      touched.add(old.status)
      byStatus.get(old.status).delete(name)
      unit && (unit.card = old.card)
    }
    if (unit === null) { units.delete(name); return }
    units.set(name, unit)
    byStatus.get(unit.status).set(name, unit)
    touched.add(unit.status)
  }

  // -- the page of one unit

  const unitPage = h("section", { class: "unit-page", hidden: true })
  let page = null

  function makePage(name) {
    const title = h("h2", {}), badge = h("span", { class: "status" }), stepper = h("ol", { class: "stepper" })
    const actions = h("div", { class: "buttons actions" }), factList = h("dl", { class: "facts" }), prompt = h("pre", { class: "words open prompt" })
    const story = h("ol", { class: "story", "aria-label": "Story" }), asks = h("div", { class: "items" })
    const log = h("pre", { class: "log", tabIndex: 0, "aria-label": "Output of the newest attempt" })
    const following = h("button", { class: "quiet", onclick: () => { stick = true; log.scrollTop = log.scrollHeight; draw() } })
    const logTitle = h("span", {}, "Output")
    let stick = true, shownActions = "", shownFacts = "", rows = 0, seen = null, typed = false
    const draw = () => { text(following, stick ? "Following" : "Paused: follow again"); following.classList.toggle("on", !stick) }
    log.addEventListener("scroll", () => { const now = log.scrollHeight - log.scrollTop - log.clientHeight < 24; if (now !== stick) { stick = now; draw() } })
    draw()
    const priority = h("input", { type: "number", class: "number", "aria-label": `Priority of ${name}`, oninput: () => { typed = true } })
    const edit = h("form", { class: "inline edit", hidden: true, onsubmit: (event) => {
      event.preventDefault()
      if (!priority.reportValidity() || priority.value === "") return
      request("edit", name, { set: { priority: Number(priority.value) }, version: seen.version }, setPriority).then((ok) => {
        if (ok) { typed = false; toast(`${name} has priority ${priority.value} now`) }
      })
    } })
    const setPriority = h("button", { type: "submit" }, "Set")
    edit.append(h("label", { class: "inline" }, "Priority ", priority), setPriority)
    unitPage.replaceChildren(
      h("div", { class: "crumbs" }, h("a", { href: "?", onclick: (event) => { event.preventDefault(); show("") } }, "← Board")),
      h("div", { class: "page-head" }, title, badge), stepper, asks, h("div", { class: "acts" }, actions, edit),
      h("div", { class: "two" },
        h("div", {}, h("h3", {}, "What is asked"), prompt, factList, h("h3", {}, "Story"), story),
        h("div", { class: "output" }, h("h3", {}, logTitle, following), log)))
    const list = (names) => h("span", {}, ...names.flatMap((one, i) => [i ? ", " : "", unitLink(one)]))
    return {
      name,
      facts(unit) {
        if (unit === null) {
          text(title, name)
          text(badge, "there is no such unit")
          return
        }
        text(title, name)
        text(badge, `${GLYPHS[unit.status]} ${TITLES[unit.status]}`)
        badge.className = `status ${unit.status}`
        seen = unit
        if (!typed && priority.getRootNode().activeElement !== priority) priority.value = unit.priority
        edit.hidden = !unit.possible.includes("edit")
        const at = unit.phases.indexOf(unit.phase)
        stepper.replaceChildren(...unit.phases.map((phase, i) => {
          const state = unit.status === "DONE" || i < at ? "past" : i === at ? "now" : "next"
          return h("li", { class: state, "aria-current": state === "now" ? "step" : "false" }, phase)
        }))
        text(prompt, unit.prompt)
        prompt.hidden = !unit.prompt
        const facts = [
          ["Why", unit.reason], ["Attempt", unit.attempt ? String(unit.attempt) : ""], ["Workflow", unit.workflow], ["Agent", unit.agent],
          ["Priority", unit.priority ? String(unit.priority) : ""], ["Labels", unit.labels.join(", ")], ["Touches", unit.touches.join(", ")],
          ["After", unit.after.length ? list(unit.after.map((one) => one.name)) : ""],
          ["Waited for by", unit.dependents.length ? list(unit.dependents) : ""],
          ["Branch", unit.branch && unit.base ? `${unit.branch} from ${unit.base.slice(0, 12)}` : ""], ["Session", unit.session], ["Feedback", unit.feedback],
        ].filter(([, value]) => value)
        const said = JSON.stringify([unit.after, unit.dependents, facts.filter(([, value]) => typeof value === "string")])
        // Drawn anew only where something differs: what has the focus or is selected stays.
        if (said !== shownFacts) factList.replaceChildren(...facts.flatMap(([label, value]) => [h("dt", {}, label), h("dd", {}, value)]))
        shownFacts = said
        const possible = new Set(unit.possible)
        const wanted = ["pause", "resume", "reopen", "cancel"].filter((kind) => possible.has(kind)).join()
        if (wanted !== shownActions) {
          shownActions = wanted
          const act = (kind, args, button) => request(kind, name, args, button)
          actions.replaceChildren(...wanted.split(",").filter(Boolean).map((kind) => {
            if (kind === "cancel") return confirmed("Cancel the unit", "cancel", () => ({}), act)
            const node = h("button", { onclick: () => act(kind, {}, node) }, { pause: "Pause", resume: "Resume", reopen: "Reopen" }[kind])
            return node
          }))
        }
        this.items()
      },
      items() {
        const mine = [...items].filter(([, item]) => item.unit === name)
        this.cards ??= new Map()
        for (const [id, card] of this.cards) if (!items.has(id)) { card.node.remove(); this.cards.delete(id) }
        for (const [id, item] of mine) {
          if (this.cards.has(id)) this.cards.get(id).update(item)
          else { this.cards.set(id, itemCard(id, item)); asks.append(this.cards.get(id).node) }
        }
      },
      story(more) {
        for (const row of more) {
          const change = row.kind === "transition"
          story.prepend(h("li", { class: `row-${row.kind} is-${row.level}` },
            h("time", { title: new Date(row.occurred_at).toISOString() }, clock(row.occurred_at)),
            h("div", {}, h("b", {}, row.what), change && row.from_status !== row.to_status ? ` ${row.from_status} → ${row.to_status}` : "",
              change ? h("span", { class: "who" }, ` ${row.phase} · ${row.actor}`) : null,
              row.text ? h("div", { class: "why" }, plain(row.text)) : null)))
          rows += 1
        }
        while (rows > 400) { story.lastElementChild.remove(); rows -= 1 }
      },
      log(share) {
        if (share.anew) { log.replaceChildren() }
        text(logTitle, `Output of attempt ${share.attempt}`)
        const keep = stick
        log.append(plain(share.text))
        if (log.childNodes.length > 50 || log.textContent.length > 400_000) {
          const lines = log.textContent.split("\n")
          log.textContent = lines.slice(-LOG_LINES).join("\n").slice(-300_000)
        }
        if (keep) log.scrollTop = log.scrollHeight
      },
    }
  }

  function show(name) {
    if (model.unit !== name) { model.unit = name; history.pushState(null, "", name ? `?unit=${encodeURIComponent(name)}` : location.pathname) }
    drawView()
  }

  function drawView() {
    const name = model.unit
    unitPage.hidden = !name
    for (const node of [queue, tools, board, welcome]) node.classList.toggle("away", Boolean(name))
    if (name && page?.name !== name) page = makePage(name)
    if (!name) page = null
    say({ type: "open", unit: name })
    if (name) root.scrollIntoView({ block: "start" })
  }
  const onPop = () => { model.unit = new URLSearchParams(location.search).get("unit") ?? ""; drawView() }
  window.addEventListener("popstate", onPop)

  // -- frames

  function apply(frame) {
    const touched = new Set()
    let queueChanged = false
    for (const [kind, name, value] of frame.changes) {
      if (kind === "head") head = value
      else if (kind === "unit") keepUnit(name, value, touched)
    }
    for (const [kind, name, value] of frame.changes) {
      if (kind === "item") { drawItem(name, value); queueChanged = true }
    }
    if (queueChanged) { arrangeItems(); page?.items() }
    if (head) drawHead()
    for (const status of touched) drawColumn(status)
    root.dataset.seq = frame.seq
    say({ type: "ack", frame: frame.frame })
  }

  model.on("msg:custom", (event) => {
    const message = event.data ?? event
    lastHeard = Date.now()
    lost = false
    if (message.changes) apply(message)
    else if ("pong" in message) latency = message.latency
    else if ("done" in message) { waiting.get(message.done)?.(message.ok, message.text); waiting.delete(message.done) }
    else if (message.name !== page?.name) { if (message.log) say({ type: "log-ack" }) }
    else if ("page" in message) page.facts(message.page)
    else if (message.story) page.story(message.story)
    else if (message.log) { page.log(message.log); say({ type: "log-ack" }) }
    drawConnection()
  })

  // -- time and the connection

  // Bokeh says at once when its socket closes; silence tells of the cases where none closes.
  for (const doc of window.Bokeh?.documents ?? []) doc.on_event?.("connection_lost", () => { lost = true; drawConnection() })
  let pings = 0, probing = false
  const beat = setInterval(async () => {
    say({ type: "ping", n: ++pings })
    drawConnection()
    if (Date.now() - lastHeard < SILENCE || probing) return
    // The server has gone, or has come back without this session: then a new page is the way back to a live one.
    probing = true
    try {
      const answer = await fetch("/healthz", { cache: "no-store" })
      if (answer.status < 600 && Date.now() - lastHeard >= SILENCE) {
        await new Promise((resolve) => setTimeout(resolve, 1500))
        if (Date.now() - lastHeard >= SILENCE) location.reload()
      }
    } catch { /* not yet */ } finally { probing = false }
  }, PING)
  const ticking = setInterval(() => {
    const now = Date.now()
    for (const card of cards.values()) card.tick(now)
    if (page?.cards) for (const card of page.cards.values()) card.tick(now)
    for (const column of columns.values()) for (const node of column.body.children) node.tick?.(now)
    for (const status of ["NEEDS_ATTENTION", "RUNNING", "READY", "BLOCKED", "PAUSED"]) {
      let n = 0
      for (const unit of byStatus.get(status).values()) { if (unit.card?.node.isConnected) unit.card.tick(now); if (++n > 400) break }
    }
  }, 1000)

  const tools = h("div", { class: "tools" }, h("h2", {}, "Board"), search)
  const root = h("div", { class: "console" }, strip, fault, stale, queue, tools, welcome, board, unitPage, toasts)
  const theme = () => { root.dataset.theme = model.dark ? "dark" : "light" }
  theme()
  model.on("dark", () => { theme(); document.cookie = `orch-dark=${model.dark ? "yes" : "no"}; path=/; max-age=31536000; SameSite=Strict` })
  model.on("remove", () => { clearInterval(beat); clearInterval(ticking); window.removeEventListener("popstate", onPop) })
  el.append(root)
  say({ type: "hello" })
  drawView()
}
