// What has become of a unit, newest first: transitions with what each ended, and what was said in between.

import { h, duration, moment, plain, text } from "./dom.js"

const KEPT = 400 // rows that live ones may push out of the list; those asked for stay

export function makeStory(app, name) {
  const list = h("ol", { class: "story", "aria-label": "Story" })
  const older = h("button", { class: "plain more", hidden: true, onclick: () => {
    older.disabled = true
    app.say({ type: "older", before: first })
  } }, "Show older")
  const events = h("input", { type: "checkbox", checked: true, onchange: () => list.classList.toggle("moves-only", !events.checked) })
  const node = h("section", { class: "panel", "aria-label": "What has become of it" },
    h("div", { class: "panel-head" }, h("h2", {}, "Story"), h("label", { class: "inline" }, events, "with messages")), list, older)
  let newest = 0, first = Infinity, asked = false

  function row(said) {
    const change = said.kind === "transition", moved = change && said.from_status !== said.to_status
    const when = h("time", { title: new Date(said.occurred_at).toISOString(), dateTime: new Date(said.occurred_at).toISOString() }, moment(said.occurred_at))
    const head = h("div", { class: "what" }, h("b", {}, said.what), moved ? h("span", { class: "moved" }, `${said.from_status} → ${said.to_status}`) : null,
      moved && said.stayed !== null ? h("span", { class: "stayed", title: `it had been ${said.from_status} so long` }, `after ${duration(said.stayed * 1000)}`) : null)
    const who = [change ? said.phase : "", said.attempt ? `attempt ${said.attempt}` : "", plain(said.actor)].filter(Boolean).join(" · ")
    return h("li", { class: `row-${said.kind} is-${said.level}`, "data-seq": said.seq, "data-cause": said.cause },
      when, h("div", { class: "said" }, head, h("div", { class: "who", title: `cause ${plain(said.cause)}` }, who), said.text ? h("div", { class: "why" }, plain(said.text)) : null))
  }

  // Rows that one stimulus led to are drawn as one group.
  function group() {
    let above = null
    for (const item of list.children) {
      item.classList.toggle("same-cause", above !== null && above.dataset.cause === item.dataset.cause)
      above = item
    }
  }

  return {
    node,
    apply(rows, anew, more) {
      if (anew) {
        list.replaceChildren()
        first = Infinity
        asked = false
      }
      list.prepend(...rows.filter((one) => one.seq > newest || anew).map(row))
      for (const one of rows) { newest = Math.max(newest, one.seq); first = Math.min(first, one.seq) }
      if (anew) older.hidden = !more
      if (!asked && list.childElementCount > KEPT) {
        while (list.childElementCount > KEPT) list.lastElementChild.remove()
        first = Number(list.lastElementChild.dataset.seq)
        older.hidden = false
      }
      group()
    },
    older(rows, more) {
      asked = true
      list.append(...rows.filter((one) => one.seq < first).map(row))
      for (const one of rows) first = Math.min(first, one.seq)
      older.disabled = false
      older.hidden = !more
      group()
    },
  }
}

// Each attempt: its phase, when, how long, how it ended, and what it used.
export function makeAttempts() {
  const body = h("tbody"), used = h("p", { class: "hint" }), none = h("p", { class: "hint" }, "No attempt yet.")
  const table = h("table", { class: "table attempts", hidden: true },
    h("thead", {}, h("tr", {}, ...["Attempt", "Started", "Took", "Ended by", "Used"].map((word) => h("th", { scope: "col" }, word)))), body)
  const node = h("section", { class: "panel", "aria-label": "Attempts" }, h("h2", {}, "Attempts"), none, used, table)
  const rows = new Map()

  function row(number) {
    const cells = ["Attempt", "Started", "Took", "Ended by", "Used"].map((label, i) => h(i ? "td" : "th", i ? { "data-label": label } : { scope: "row" }))
    return {
      node: h("tr", {}, ...cells),
      update(now) {
        this.now = now
        cells[0].replaceChildren(`${number} `, h("span", { class: "phase" }, now.phase))
        text(cells[1], moment(now.started_at))
        cells[3].replaceChildren(now.runs ? "runs" : now.ended_by ?? "", now.reason && !now.runs ? h("div", { class: "why" }, plain(now.reason)) : "")
        const words = [tokens(now), now.model ? plain(now.model) : "", now.session ? `session ${plain(now.session)}` : ""].filter(Boolean)
        cells[4].replaceChildren(...words.map((word) => h("div", {}, word)))
        this.tick(Date.now())
      },
      tick(time) { text(cells[2], duration((this.now.seconds ?? 0) * 1000 + (this.now.runs ? time - this.now.last_started_at : 0))) },
    }
  }

  return {
    node,
    apply(list, totals) {
      for (const one of list ?? []) {
        if (!rows.has(one.attempt)) rows.set(one.attempt, row(one.attempt))
        rows.get(one.attempt).update(one)
      }
      if (list) body.replaceChildren(...list.map((one) => rows.get(one.attempt).node))
      table.hidden = rows.size === 0
      none.hidden = rows.size > 0
      if (totals) text(used, [tokens(totals), totals.reworks ? `${totals.reworks} rework${totals.reworks === 1 ? "" : "s"}` : ""].filter(Boolean).join(" · "))
      used.hidden = !used.textContent
    },
    tick(now) { for (const one of rows.values()) if (one.now.runs) one.tick(now) },
  }
}

function tokens(used) {
  const parts = []
  if (used.input_tokens || used.output_tokens) parts.push(`${(used.input_tokens ?? 0).toLocaleString()} tokens in, ${(used.output_tokens ?? 0).toLocaleString()} out`)
  if (used.usd) parts.push(`$${used.usd < 1 ? used.usd.toFixed(4) : used.usd.toFixed(2)}`)
  return parts.join(" · ")
}
