// The attention queue: a card for each open item, answers to one or to many. Cards are keyed by item; one in which
// somebody types is neither moved nor redrawn, and what was typed is never thrown away unasked.

import { arrange, duration, focused, h, moment, plain, text } from "./dom.js"
import { makeForm } from "./answers.js"
import { makeBatch } from "./batch.js"
import { makeLeftovers } from "./leftovers.js"

const KINDS = {
  question: "Question", approval: "Approval", conflict: "Conflict", error: "Error", stall: "Silent", budget: "Budget",
  blocked: "Blocked",
}
const SEVERITIES = { error: "✖ error", warning: "▲ warning", info: "● info" }
const MORE = 30
const OPEN = 6 // items at the front that are shown open without being asked to
const LONG = 400 // characters of a text that are shown before it is unfolded

// Text with its links made real, as long as they are plain web addresses.
function linked(raw) {
  const parts = []
  for (const piece of plain(raw).split(/(https?:\/\/[^\s<>"'`]+)/)) {
    const href = /^https?:\/\//.test(piece) ? piece.replace(/[).,;:!?\]]+$/, "") : ""
    if (!href || !URL.canParse(href)) { parts.push(piece); continue }
    parts.push(h("a", { href, rel: "noopener noreferrer", target: "_blank" }, href), piece.slice(href.length))
  }
  return parts
}

// `unit`: only its items are told of; `batch`: whether many can be chosen. The page gives `apply` what its server half's
// Queue.changes said, and `told` what it was told.
export function makeQueue(app, { unit = null, batch = unit === null } = {}) {
  const items = new Map(), cards = new Map(), stuck = new Map() // stuck: settled by others while one types in them
  let state = { order: [], folded: [], total: 0, dismissed: 0, forms: {} }, count = MORE

  const total = h("span", { class: "count" })
  const quiet = h("p", { class: "hint", hidden: true }, "Nothing waits for you. Questions, approvals, conflicts and errors show up here.")
  const list = h("div", { class: "items" }), foldedList = h("div", { class: "items" })
  const more = h("button", { class: "plain more", hidden: true, onclick: () => {
    count += MORE
    app.say({ queue: "more", count })
  } })
  const summary = h("summary", {})
  const folded = h("details", { class: "dismissed", hidden: true, ontoggle: () => app.say({ queue: "fold", open: folded.open }) }, summary, foldedList)
  const choosing = batch ? makeBatch(app, () => { for (const card of cards.values()) card.choose(choosing.has(card.id)) }) : null
  const leftovers = makeLeftovers(app, unit, linked)
  const node = h("section", { class: "queue", "aria-label": "Attention queue" },
    h("h2", {}, unit === null ? "Attention " : "Needs attention ", total), quiet, choosing?.node, leftovers.node, list, more, folded)
  for (const one of [list, foldedList]) one.addEventListener("focusout", () => setTimeout(draw))

  // -- one card

  function makeCard(id, view) {
    const age = h("span", {}), blocks = h("span", { class: "blocks" }), words = h("pre", { class: "words" })
    const title = h("button", { class: "plain title", onclick: () => { opened = !shown(); card.draw(); card.showEnd() } })
    const unfold = h("button", { class: "plain", hidden: true, "aria-expanded": "false", onclick: toggle })
    const files = h("ul", { class: "files", "aria-label": "Files" })
    const box = choosing ? h("input", { type: "checkbox", "aria-label": `Select item ${id} of ${view.unit}`, onchange: () => choosing.set(id, card.view.form, box.checked) }) : null
    const aside = h("button", { class: "quiet aside", title: "Put it aside: it stays open, and no longer counts", onclick: async () => {
      card.aside = (await app.request("see", view.unit, { item: id }, aside)).ok
      if (card.aside) choosing?.set(id, null, false)
      card.choose(false)
      draw()
    } }, "Dismiss")
    const note = h("p", { class: "note", role: "status", hidden: true })
    const form = makeForm(app, id, view, act)
    const body = h("div", { class: "body" }, words, unfold, files, form.node)
    const article = h("article", { class: `item is-${view.severity}`, "aria-label": view.title, tabIndex: -1, "data-item": id },
      h("header", {}, box, h("span", { class: `severity of-${view.severity}` }, SEVERITIES[view.severity] ?? view.severity),
        view.kind === view.severity ? null : h("span", { class: `badge of-${view.kind}` }, KINDS[view.kind] ?? view.kind), aside, h("strong", {}, title)),
      h("div", { class: "meta" }, app.unitLink(view.unit), h("span", {}, `${view.phase}${view.attempt ? ` · attempt ${view.attempt}` : ""}`), age, blocks), note, body)
    let opened = null, open = false, whole = null, pending = 0, answered = false, after = null, said = null

    function toggle() {
      open = !open
      if (open && whole === null && card.view.length > card.view.text.length) app.say({ queue: "whole", id })
      unfolded()
    }

    function unfolded() {
      words.classList.toggle("open", open)
      unfold.setAttribute("aria-expanded", String(open))
      text(unfold, open ? "Show less" : `Show all${card.view.length > LONG ? ` (${card.view.length.toLocaleString()} characters)` : ""}`)
    }

    // Whether its body is shown: as somebody chose, else where something was typed and at the front of the queue.
    const shown = () => opened ?? (card.front || form.typed())

    function write(value) {
      if (said === value) return
      said = value
      words.replaceChildren(...linked(value))
    }

    // Sends one decision on this item. Whether it settled it is known when the server has said so.
    async function act(kind, args, button) {
      pending += 1
      const { ok } = await app.request(kind, view.unit, { ...args, item: id }, button)
      pending -= 1
      answered ||= ok
      if (ok) form.forget()
      if (after) card.settle(after)
    }

    // Somebody else was first: the card says so and keeps what was typed, to be copied.
    function stick(info) {
      stuck.set(id, card)
      article.classList.add("is-settled")
      note.hidden = false
      note.replaceChildren(...linked(info.words))
      if (box) { box.checked = false; box.disabled = true }
      aside.hidden = true
      form.close(() => {
        form.forget()
        stuck.delete(id)
        article.remove()
        draw()
      })
    }

    const card = {
      id, node: article, view, aside: false, front: false,
      typed: () => form.typed(),
      draw() {
        const on = shown(), now = card.view
        body.hidden = !on
        title.setAttribute("aria-expanded", String(on))
        const asks = on && now.title.startsWith(`${now.unit} asks:`)
        text(title, asks ? `${now.unit} asks` : plain(now.title))
        words.hidden = !now.text || (!asks && plain(now.title).endsWith(plain(now.text)))
        unfold.hidden = words.hidden || (now.length < LONG && now.text.split("\n").length < 7)
      },
      // Of the output of what failed the last lines say why.
      showEnd() { if (!open && card.view.form === "failure") words.scrollTop = words.scrollHeight },
      choose(on) { if (box) box.checked = on },
      update(now) {
        card.view = now
        write(whole ?? now.text)
        unfolded()
        card.draw()
        const names = now.moreFiles ? [...now.files, `and ${now.moreFiles} more`] : now.files
        if (files.childElementCount !== names.length) files.replaceChildren(...names.map((name) => h("li", {}, plain(name))))
        const others = now.blocks - now.blocked.length
        text(blocks, now.blocks ? `${now.blocks}${now.uncounted ? "+" : ""} wait${now.blocks === 1 ? "s" : ""} for it` : "")
        blocks.title = now.blocks ? `${now.blocked.join(", ")}${others ? ` and ${others} more` : ""}` : ""
        aside.hidden = now.seen
        article.classList.toggle("is-seen", now.seen)
      },
      whole(all) {
        whole = all
        write(whole)
      },
      // The item is no longer open. What was typed meanwhile stays until its owner puts it away.
      settle(info) {
        after = info
        if (pending) return
        cards.delete(id)
        if (!answered && form.typed()) return stick(info)
        form.forget()
        if (article.isConnected && focused(article)) next(article)?.focus()
        if (!typing(list)) return article.remove()
        article.classList.add("is-gone")
        article.inert = true
      },
      tick: (now) => {
        text(age, `${duration(now - card.view.opened)} ago`)
        age.title = moment(card.view.opened)
      },
    }
    card.update(view)
    card.tick(Date.now())
    card.choose(choosing?.has(id) ?? false)
    return card
  }

  const next = (article) => article.nextElementSibling ?? article.previousElementSibling

  // -- the list

  const typing = (where) => focused(where)?.matches("input:not([type=checkbox]), textarea, select") ?? false

  function draw() {
    text(total, state.total ? state.total.toLocaleString() : "")
    quiet.hidden = state.total > 0 || unit !== null
    node.hidden = unit !== null && !state.total && !state.dismissed && !stuck.size && !leftovers.some()
    for (const number of [...state.order, ...state.folded]) {
      if (!cards.has(number) && items.has(number)) cards.set(number, makeCard(number, items.get(number)))
    }
    const of = (numbers) => numbers.map((number) => cards.get(number)).filter(Boolean)
    if (!typing(list)) for (const [at, card] of of(state.order).entries()) card.front = at < OPEN
    for (const card of cards.values()) card.draw()
    const shown = new Set([...state.order, ...state.folded])
    const kept = [...cards.values()].filter((card) => !shown.has(card.id) && !card.aside && !card.view.seen && card.typed())
    place(list, [...of(state.order), ...kept])
    place(foldedList, of(state.folded))
    for (const [number, card] of cards) {
      if (card.node.isConnected) card.showEnd()
      else cards.delete(number)
    }
    const rest = state.total - state.order.length
    more.hidden = rest <= 0
    text(more, `Show more (${rest.toLocaleString()} not shown)`)
    folded.hidden = !state.dismissed
    text(summary, `Dismissed (${state.dismissed.toLocaleString()})`)
    choosing?.draw(state)
  }

  // While somebody types in the list nothing in it moves: what is new goes to its end.
  function place(where, wanted) {
    const nodes = wanted.map((card) => card.node)
    if (!typing(where)) {
      for (const { node: one } of stuck.values()) {
        if (one.parentNode === where) nodes.splice(nodes.indexOf(one.previousElementSibling) + 1, 0, one)
      }
      return arrange(where, nodes)
    }
    for (const one of nodes) if (one.parentNode !== where) where.append(one)
  }

  return {
    node,
    apply(said) {
      if (!said) return
      state = said
      for (const [key, view] of Object.entries(said.items)) {
        items.set(Number(key), view)
        cards.get(Number(key))?.update(view)
      }
      for (const [key, info] of Object.entries(said.settled)) {
        const id = Number(key), card = cards.get(id)
        items.delete(id)
        choosing?.set(id, null, false)
        if (card) card.settle(info)
        else leftovers.settled(id, info)
      }
      leftovers.begin(items)
      draw()
    },
    // What the server half said beside the frames; whether it was for the queue.
    told(message) {
      const said = message?.queue
      if (!said) return false
      if ("whole" in said) cards.get(said.whole)?.whole(said.length > said.text.length ? `${said.text}\n…` : said.text)
      else if (said.left) for (const [key, info] of Object.entries(said.left)) leftovers.settled(Number(key), info)
      else choosing?.told(said)
      if (said.left) draw()
      return true
    },
    tick(now) { for (const card of cards.values()) card.tick(now) },
  }
}
