// The page of one unit: what waits for a person, what it does now, its story, its attempts, its output, its changes.

import { h, duration, moment, plain, statusBadge, text } from "./dom.js"
import { makeQueue } from "./attention.js"
import { makeDiff } from "./diff.js"
import { makeAttempts, makeStory } from "./story.js"
import { editUnit, makeActions } from "./unit_actions.js"

const TABS = [["overview", "Overview"], ["output", "Output"], ["changes", "Changes"]]
const ENDED = new Set(["DONE", "CANCELLED"])

export default function make(app, args) {
  const name = args.unit ?? ""
  let facts = null, attempts = [], totals = { phases: {} }, log = null, openTab = null

  const badge = h("span", { class: "badge-place" }), age = h("span", { class: "age" }), why = h("p", { class: "why now-why", hidden: true })
  const stepper = h("ol", { class: "stepper", "aria-label": "Phases" })
  const queue = makeQueue(app, { unit: name }), story = makeStory(app, name), table = makeAttempts(), diff = makeDiff(app, name)
  const actions = makeActions(app, name, () => facts, () => editUnit(app, name, () => facts))
  const now = makeNow(name), asked = makeFacts(app)
  const output = h("div", { class: "output-place" })
  const panes = {
    overview: h("div", { class: "pane columns" }, h("div", { class: "main-column" }, now.node, asked.node, table.node), h("div", { class: "side-column" }, story.node)),
    output: h("div", { class: "pane" }, output),
    changes: h("div", { class: "pane" }, diff.node),
  }
  const tabs = new Map(TABS.map(([key, title]) => [key, h("button", { role: "tab", id: `tab-${key}`, "aria-controls": `pane-${key}`, onclick: () => choose(key) }, title)]))
  for (const [key, pane] of Object.entries(panes)) {
    pane.id = `pane-${key}`
    pane.setAttribute("role", "tabpanel")
    pane.setAttribute("aria-labelledby", `tab-${key}`)
  }
  const bar = h("div", { class: "tabs", role: "tablist", "aria-label": "Parts of the page", onkeydown: (event) => {
    const keys = [...tabs.keys()], step = { ArrowRight: 1, ArrowLeft: -1 }[event.key]
    if (!step) return
    event.preventDefault()
    const next = keys[(keys.indexOf(openTab) + step + keys.length) % keys.length]
    choose(next)
    tabs.get(next).focus()
  } }, ...tabs.values())
  const missing = h("p", { class: "welcome hint", hidden: true }, `There is no unit “${plain(name)}”. `, app.link("board", {}, "See all units on the board"))
  const body = h("div", { class: "unit-body" }, stepper, why, queue.node, actions.node, bar, ...Object.values(panes))
  body.hidden = true
  const node = h("section", { class: "unit-page", "aria-label": `Unit ${name}` },
    h("div", { class: "crumbs" }, app.link("board", {}, "← Board")),
    h("div", { class: "page-head" }, h("h2", {}, plain(name)), badge, age), missing, body)

  function choose(wanted, keep = true) {
    const key = tabs.has(wanted) ? wanted : "overview"
    if (key === openTab) return
    openTab = key
    for (const [one, tab] of tabs) {
      tab.setAttribute("aria-selected", String(one === key))
      tab.tabIndex = one === key ? 0 : -1
      panes[one].hidden = one !== key
    }
    if (keep) app.keep(key === "overview" ? { unit: name } : { unit: name, tab: key })
    if (facts) begin()
  }

  // What a tab needs is fetched when it is first opened.
  function begin() {
    if (openTab === "changes") diff.open()
    if (openTab !== "output" || log) return
    log = { told() {}, attempts() {}, close() {} }
    import("./log.js").then((module) => {
      log = module.makeLog(app)
      output.replaceChildren(log.node)
      log.attempts(attempts)
      app.say({ type: "output" })
    }).catch((error) => {
      console.error(error)
      output.replaceChildren(h("p", { class: "banner", role: "alert" }, "The output could not be loaded: reload the page."))
    })
  }

  function drawHead() {
    if (badge.dataset.status !== facts.status) {
      badge.dataset.status = facts.status
      badge.replaceChildren(statusBadge(facts.status))
    }
    text(why, plain(facts.reason))
    why.hidden = !facts.reason || facts.status === "RUNNING"
    drawStepper()
    tick(Date.now())
  }

  // Phases with what each took so far; one that has been gone through more than once says how often.
  function drawStepper() {
    const phases = facts.phases.length ? facts.phases : [...new Set([...Object.keys(totals.phases), facts.phase])]
    const at = phases.indexOf(facts.phase)
    stepper.replaceChildren(...phases.map((phase, i) => {
      const state = facts.status === "DONE" || i < at ? "past" : i === at ? "now" : "next"
      const words = took(phase)
      return h("li", { class: facts.status === "CANCELLED" && state === "now" ? "next" : state, "aria-current": state === "now" ? "step" : "false" },
        phase, words || state === "now" ? h("span", { class: "took" }, words) : null)
    }))
    if (totals.reworks) stepper.append(h("li", { class: "reworks" }, `↺ ${totals.reworks} rework${totals.reworks === 1 ? "" : "s"}`))
  }

  function took(phase) {
    const told = totals.phases[phase]
    const runs = facts.status === "RUNNING" && phase === facts.phase ? Date.now() - facts.since : 0
    const ms = (told?.seconds ?? 0) * 1000 + runs
    return [ms >= 1000 ? duration(ms) : "", told?.attempts > 1 ? `${told.attempts} attempts` : ""].filter(Boolean).join(" · ")
  }

  function tick(time) {
    if (!facts) return
    const running = stepper.querySelector(".now .took")
    if (running) text(running, took(facts.phase))
    text(age, facts.since ? ENDED.has(facts.status) ? `since ${moment(facts.since)}` : `for ${duration(time - facts.since)}` : "")
    table.tick(time)
    queue.tick(time)
    now.tick(time)
  }

  choose(args.tab, false)
  return {
    node,
    frame(said) {
      missing.hidden = !said.missing
      if (said.missing) return
      if (said.facts) {
        const first = facts === null
        facts = { ...facts, ...said.facts }
        drawHead()
        actions.apply(facts)
        asked.apply(facts, said.facts)
        now.apply(facts)
        diff.comments(facts.comments, !ENDED.has(facts.status))
        body.hidden = false
        if (first) begin()
      }
      if (said.queue) queue.apply(said.queue)
      if (said.story) story.apply(said.story, said.anew, said.older)
      if (said.totals) {
        totals = said.totals
        if (said.attempts) {
          attempts = said.attempts
          log?.attempts(attempts)
        }
        table.apply(said.attempts, totals)
        if (facts) drawStepper()
      }
    },
    told(said) {
      if (queue.told(said)) return
      if (said.older) story.older(said.older, said.more)
      else if (said.log) log?.told(said.log)
      else if (said.diff) diff.told(said.diff)
    },
    tick,
    close() {
      log?.close()
      diff.close()
    },
  }
}

// What it does at this moment.
function makeNow(name) {
  const phase = h("span", { class: "phase" }), line = h("span", { class: "line" }), left = h("span", { class: "age" }), fill = h("div", { class: "fill" })
  const bar = h("div", { class: "progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": `Progress of ${name}` }, fill)
  const node = h("section", { class: "panel now-panel", "aria-label": "Now", hidden: true }, h("h2", {}, "Now"), h("div", { class: "sub" }, phase, line, left), bar)
  let eta = null
  return {
    node,
    apply(facts) {
      const runs = facts.status === "RUNNING", later = facts.status === "READY" && facts.notBefore > Date.now()
      node.hidden = !runs && !later && !facts.waiting
      eta = runs ? facts.eta ?? null : null
      text(phase, runs ? `${facts.phase}, attempt ${facts.attempt}` : facts.phase)
      text(line, runs ? plain(facts.step) : facts.waiting ? `waits for ${facts.waits.join(", ")}${facts.waiting > facts.waits.length ? ` and ${facts.waiting - facts.waits.length} more` : ""}`
        : later ? `not before ${moment(facts.notBefore)}` : "")
      line.title = line.textContent
      bar.hidden = !runs
      bar.classList.toggle("unknown", facts.percent === null)
      fill.style.width = facts.percent === null ? "" : `${facts.percent}%`
      if (facts.percent === null) bar.removeAttribute("aria-valuenow")
      else bar.setAttribute("aria-valuenow", Math.round(facts.percent))
    },
    tick(now) { text(left, typeof eta === "number" ? `about ${duration(Math.max(0, eta - now))} left` : "") },
  }
}

// What was asked, and what else is known. Each row is drawn anew only where it differs: what is selected stays.
function makeFacts(app) {
  const prompt = h("pre", { class: "words open prompt" }), list = h("dl", { class: "facts" }), drawn = new Map()
  const node = h("section", { class: "panel", "aria-label": "What is asked" }, h("h2", {}, "What is asked"), prompt, list)
  const neighbours = (units, total) => h("ul", { class: "neighbours" },
    ...units.map((unit) => h("li", {}, app.unitLink(unit.name), unit.status ? statusBadge(unit.status) : h("span", { class: "hint" }, "not there"))),
    total > units.length ? h("li", { class: "hint" }, `and ${total - units.length} more`) : null)
  const notes = (comments) => h("ul", { class: "comments" }, ...comments.map((comment) => h("li", {}, plain(comment))))
  return {
    node,
    apply(facts, changed) {
      if ("prompt" in changed) {
        text(prompt, plain(facts.prompt))
        prompt.hidden = !facts.prompt
      }
      const rows = [
        ["Feedback for the next attempt", facts.comments.length ? facts.comments : null, notes],
        [facts.status === "RUNNING" ? "Feedback it works with" : "Feedback", plain(facts.feedback)],
        ["Waits for", facts.before.length ? facts.before : null, (units) => neighbours(units, facts.after.length)],
        ["Waited for by", facts.dependents.length ? facts.dependents : null, (units) => neighbours(units, facts.blocks)],
        ["Workflow", facts.phases.length ? facts.workflow : `${facts.workflow} (no longer in the settings)`], ["Agent", facts.agent],
        ["Priority", facts.priority ? String(facts.priority) : ""], ["Labels", facts.labels.join(", ")], ["Touches", facts.touches.join(", ")],
        ["Time limit", facts.timeout ? duration(facts.timeout * 1000) : ""], ["Retries", facts.retries === null ? "" : String(facts.retries)],
        ["Failures in a row", facts.failures ? String(facts.failures) : ""], ["Branch", facts.branch ? `${facts.branch} from ${facts.base.slice(0, 12)}` : ""],
        ["Session", plain(facts.session)], ["Submitted", facts.created ? moment(facts.created) : ""],
      ].filter(([, value]) => value)
      const said = rows.map(([label, value]) => JSON.stringify([label, value, label === "Waited for by" ? facts.blocks : 0]))
      const parts = rows.flatMap(([label, value, draw], i) => {
        const old = drawn.get(label)
        if (old?.said === said[i]) return old.parts
        const made = [h("dt", {}, label), h("dd", {}, draw ? draw(value) : value)]
        drawn.set(label, { said: said[i], parts: made })
        return made
      })
      if (parts.length !== list.childElementCount || parts.some((part, i) => list.children[i] !== part)) list.replaceChildren(...parts)
    },
  }
}
