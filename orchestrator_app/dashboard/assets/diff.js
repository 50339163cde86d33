// The changes of a branch, file by file. A click or Enter on a line opens a comment, which the next attempt gets.
// Files are asked for one after the other; large ones when they are opened. Nothing moves under the reader: newer
// commits are announced with a button.

import { h, plain, text } from "./dom.js"

const AUTO_FILE = 400 // changed lines up to which a file is opened by itself
const AUTO_ALL = 3000 // and all of those together
const FOLDED = 2000 // changed lines from which a file says so before it is loaded
const SIGNS = { "+": "add", "-": "del", " ": "same", "\\": "note" }
const REMOVED = "[removed line] "

export function makeDiff(app, unit) {
  const said = h("p", { class: "hint diff-said", role: "status" }, "Loading…"), sum = h("span", { class: "count" })
  const newer = h("button", { class: "primary", hidden: true, onclick: show }, "Newer changes: show")
  const list = h("div", { class: "diff-files" }), index = h("ol", { class: "diff-index" })
  const toc = h("details", { class: "diff-toc", hidden: true }, h("summary", {}, "Files"), index)
  const node = h("section", { class: "diff", "aria-label": "Changes" },
    h("div", { class: "panel-head" }, h("h2", {}, "Changes ", sum), newer), said, toc, list)
  const drafts = app.draft(`comments-${unit}`)
  let opened = false, of = null, files = [], comments = new Map(), open = true, waiting = []
  const unfolded = new Map() // path -> whether, as the reader chose

  function show() {
    newer.hidden = true
    app.say({ type: "diff-show" })
  }

  // -- one file

  function makeFile(view, number, auto) {
    const size = (view.added ?? 0) + (view.deleted ?? 0), binary = view.added === null
    const body = h("div", { class: "diff-body", role: "grid", "aria-label": `Changes of ${view.path}`, hidden: true, onkeydown: (event) => walk(event, body) })
    const state = h("span", { class: "hint" })
    const toggle = h("button", { class: "plain fold", "aria-expanded": "false", onclick: () => fold(body.hidden, true) },
      h("span", { class: "arrow", "aria-hidden": "true" }, "▸"), h("span", { class: "path" }, view.old ? `${plain(view.old)} → ${plain(view.path)}` : plain(view.path)))
    const words = [view.status === "modified" ? "" : view.status, binary ? "binary" : "", view.mode ? `mode ${view.mode}` : ""].filter(Boolean).join(", ")
    const article = h("article", { class: "diff-file", "aria-label": view.path },
      h("header", {}, toggle, words ? h("span", { class: "tag" }, words) : null, counts(view), state), body)
    const rows = new Map() // where a comment goes -> its line
    let asked = false

    function fold(wanted, chosen = false) {
      if (chosen) unfolded.set(view.path, wanted)
      body.hidden = !wanted
      toggle.setAttribute("aria-expanded", String(wanted))
      text(toggle.firstElementChild, wanted ? "▾" : "▸")
      if (wanted && !asked) {
        asked = true
        if (binary || !size) return body.append(h("p", { class: "hint" }, binary ? "A binary file: its content is not shown." : "No line differs."))
        text(state, "loading…")
        ask(number)
      }
    }

    function line([sign, before, after, tokens]) {
      const place = sign === "\\" ? null : sign === "-" ? `${view.path}:${before}:-` : `${view.path}:${after}:+`
      const row = h("div", { class: `dl ${SIGNS[sign]}`, role: "row", tabIndex: -1 },
        h("span", { class: "num", role: "rowheader" }, String(before ?? "")), h("span", { class: "num new", role: "rowheader" }, String(after ?? "")),
        h("span", { class: "sign", role: "gridcell" }, sign === "\\" ? "" : sign), h("code", { role: "gridcell" }, ...tokens.map(([kind, words]) => kind ? h("span", { class: `t-${kind}` }, plain(words)) : plain(words))))
      if (place) {
        row.dataset.place = place
        rows.set(place, row)
      }
      return row
    }

    body.addEventListener("click", (event) => {
      const row = event.target.closest?.(".dl[data-place]")
      const selected = body.getRootNode().getSelection?.() ?? document.getSelection()
      if (row && (!selected || selected.isCollapsed)) comment(row)
    })
    if (!auto) text(state, size > FOLDED ? `large: ${size.toLocaleString()} lines, loaded when opened` : "")
    return {
      view, node: article, fold, rows, body,
      apply(share) {
        for (const hunk of share.hunks) {
          if (!hunk.on) body.append(h("div", { class: "hunk", role: "row" }, h("span", { role: "gridcell" }, `@@ line ${hunk.new || hunk.old} @@ ${plain(hunk.head)}`)))
          body.append(h("div", { class: "hunk-lines", role: "rowgroup" }, ...hunk.lines.map(line)))
        }
        if (share.cut) body.append(h("p", { class: "hint" }, `Only the beginning is shown; all of it: git diff ${of.slice(0, 12)} in a terminal, or orch diff ${unit}`))
        if (!share.last) return
        text(state, "")
        const first = body.querySelector(".dl[data-place]")
        if (first) first.tabIndex = 0
        drawComments(this)
        for (const [place] of Object.entries(typed())) if (rows.has(place)) comment(rows.get(place), false)
      },
    }
  }

  function counts(view) {
    if (view.added === null) return null
    return h("span", { class: "diff-counts" }, h("span", { class: "plus" }, `+${view.added.toLocaleString()}`), " ", h("span", { class: "minus" }, `−${view.deleted.toLocaleString()}`))
  }

  // Arrows go from line to line, Enter opens a comment.
  function walk(event, body) {
    const row = event.target.closest?.(".dl[data-place]")
    if (!row || event.target !== row) return
    if (event.key === "Enter") {
      event.preventDefault()
      return comment(row)
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
    if (!step) return
    event.preventDefault()
    const all = [...body.querySelectorAll(".dl[data-place]")], next = all[all.indexOf(row) + step]
    if (!next) return
    row.tabIndex = -1
    next.tabIndex = 0
    next.focus()
  }

  // Files are asked for one at a time, so that none waits behind a mountain.
  function ask(number) {
    waiting.push(number)
    if (waiting.length === 1) app.say({ type: "diff-file", of, n: number })
  }

  // -- comments

  function typed() {
    try { return JSON.parse(drafts.get() || "{}") } catch { return {} }
  }

  function remember(place, words) {
    const all = typed()
    if (words) all[place] = words
    else delete all[place]
    drafts.set(Object.keys(all).length ? JSON.stringify(all) : "")
  }

  function after(row) {
    let at = row
    while (at.nextElementSibling?.matches(".noted, .note-box")) at = at.nextElementSibling
    return at
  }

  function comment(row, focus = true) {
    if (app.viewer) return
    if (!open) return app.toast("This unit has ended: no attempt would read a comment.")
    const place = row.dataset.place
    const there = after(row)
    if (there.matches(".note-box")) return there.querySelector("textarea").focus()
    const [, path, line, side] = /^([^]*):(\d+):([+-])$/.exec(place)
    const field = h("textarea", { rows: 3, "aria-label": `Comment on ${path}, line ${line}`, placeholder: "It goes to the next attempt as feedback", value: typed()[place] ?? "",
      oninput: () => remember(place, field.value), onkeydown: (event) => {
        if (event.key === "Escape") { event.stopPropagation(); close() }
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send.click()
      } })
    const send = h("button", { class: "primary", onclick: async () => {
      const words = field.value.trim()
      if (!words) return field.focus()
      const { ok } = await app.request("comment", unit, { file: path, line: Number(line), text: side === "-" ? REMOVED + words : words }, send)
      if (!ok) return
      remember(place, "")
      close()
    } }, "Send to the next attempt")
    const close = () => {
      box.remove()
      row.focus({ preventScroll: true })
    }
    const box = h("div", { class: "note-box", role: "group" }, field,
      h("div", { class: "buttons" }, send, h("button", { onclick: () => { remember(place, ""); close() } }, "Discard"), h("span", { class: "hint" }, "Ctrl+Enter sends")))
    there.after(box)
    if (focus) field.focus()
  }

  // Sent comments stand under their lines.
  function drawComments(file) {
    for (const old of file.body.querySelectorAll(".noted")) old.remove()
    for (const [place, all] of comments) {
      const row = file.rows.get(place)
      if (row) row.after(...all.map((words) => h("div", { class: "noted" }, h("b", {}, "For the next attempt: "), plain(words))))
    }
  }

  // -- what the server half says

  function applyList(now) {
    of = now.of
    waiting = []
    newer.hidden = true
    let room = AUTO_ALL
    files = (now.files ?? []).map((view, number) => {
      const size = (view.added ?? 0) + (view.deleted ?? 0)
      const auto = size <= AUTO_FILE && size <= room
      if (auto) room -= size
      const file = makeFile(view, number, auto)
      return Object.assign(file, { auto: unfolded.get(view.path) ?? auto })
    })
    list.replaceChildren(...files.map((file) => file.node))
    index.replaceChildren(...files.map((file) => h("li", {}, h("button", { class: "plain path", onclick: () => {
      file.fold(true, true)
      file.node.scrollIntoView({ block: "start" })
      file.node.querySelector("button").focus({ preventScroll: true })
    } }, plain(file.view.path)), counts(file.view))))
    for (const file of files) if (file.auto) file.fold(true)
    toc.hidden = files.length < 2
    if (files.length <= 30) toc.open = true
    const added = files.reduce((n, file) => n + (file.view.added ?? 0), 0), deleted = files.reduce((n, file) => n + (file.view.deleted ?? 0), 0)
    text(sum, files.length ? `${files.length.toLocaleString()}${now.more ? "+" : ""} file${files.length === 1 ? "" : "s"} · +${added.toLocaleString()} −${deleted.toLocaleString()}` : "")
    text(said, now.state === "files" ? now.more ? "Only the first files are listed." : "" : plain(now.words))
    said.hidden = !said.textContent
  }

  return {
    node,
    open() {
      if (opened) return
      opened = true
      show()
    },
    told(now) {
      if ("state" in now) {
        if (now.state !== "fault") return applyList(now)
        text(said, plain(now.words))
        said.hidden = false
        waiting = []
      } else if ("newer" in now) newer.hidden = false
      else if (now.of === of) {
        files[now.file]?.apply(now)
        if (!now.last) return
        waiting.shift()
        if (waiting.length) app.say({ type: "diff-file", of, n: waiting[0] })
      }
    },
    // All comments that wait for the next attempt, as they stand in the log: "FILE:LINE: words".
    comments(all, unitIsOpen) {
      open = unitIsOpen
      const found = new Map()
      for (const one of all) {
        const parts = /^([^]+?):(\d+): ([^]*)$/.exec(one)
        if (!parts) continue
        const removed = parts[3].startsWith(REMOVED), place = `${parts[1]}:${parts[2]}:${removed ? "-" : "+"}`
        found.set(place, [...(found.get(place) ?? []), removed ? parts[3].slice(REMOVED.length) : parts[3]])
      }
      if (JSON.stringify([...found]) === JSON.stringify([...comments])) return
      comments = found
      for (const file of files) drawComments(file)
    },
    close() {},
  }
}
