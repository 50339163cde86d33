// The live log: follows the end of an attempt's output, pauses where its reader is, and searches the whole file. The
// page holds a bounded window of it; the server sends a share at a time and waits until it is shown.

import { h, text } from "./dom.js"
import { makeDownload } from "./log_download.js"
import { makeLines } from "./log_lines.js"
import { makeSearch } from "./log_search.js"

const NEAR = 600 // pixels before the end of the window at which more of the file is asked for
const CLOSE = 6 // pixels from the end that count as at the end
const PATIENCE = 3000 // after so many ms what was asked for may be asked for again
const REACHABLE = 256 * 1024 // bytes behind the end from which a follower goes on instead of beginning anew
const WRAP = "orch-log-wrap"

export function bytes(n) {
  if (n < 1000) return `${n} B`
  const step = n < 999_500 ? [1e3, "kB"] : n < 999_500_000 ? [1e6, "MB"] : [1e9, "GB"]
  const value = n / step[0]
  return `${value < 9.95 ? value.toFixed(1).replace(/\.0$/, "") : Math.round(value)} ${step[1]}`
}

const WORDS = {
  none: "Not started yet: the output stands here as soon as there is some.",
  empty: "No output yet.",
  missing: "No output yet.",
}

export function makeLog(app) {
  const lines = makeLines()
  let unit = "", attempt = 0, newest = 0, size = 0, following = true, asked = 0, news = 0, target = null, lastTop = 0

  const say = (type, facts = {}) => app.say({ type, ...facts })

  // -- what is seen

  const chooser = h("select", { class: "log-attempts", "aria-label": "Attempt whose output is shown", hidden: true,
    onchange: () => say("log-attempt", { attempt: Number(chooser.value) }) })
  const button = (words, title, onclick, kind = "quiet") => h("button", { class: kind, title, onclick }, words)
  const wrap = button("Wrap", "Whether long lines are broken", () => setWrap(!wraps()))
  const first = button("⤒ Start", "Go to the beginning of the output (Home)", () => jump(0))
  const last = button("⤓ End", "Go to the end and follow it (End)", () => follow())
  const download = makeDownload(app, () => ({ unit, attempt, size }), bytes)
  const search = makeSearch({ say, bytes, lines, show, size: () => size,
    place: () => (following ? null : lines.byteAt(box.getBoundingClientRect().top)) })
  const hint = h("p", { class: "log-hint" }, WORDS.none)
  const box = h("div", { class: "log-box", tabIndex: 0, role: "log", "aria-live": "off", "aria-label": "Output" },
    hint, lines.node)
  const pausedWords = h("span", {})
  const resume = button("Follow", "Go to the newest output and follow it", () => {
    if (newest > attempt) say("log-attempt", { attempt: newest })
    else follow()
  }, "primary")
  const bar = h("div", { class: "log-paused", role: "group", "aria-label": "Following is paused", hidden: true },
    pausedWords, resume)
  const place = h("span", { class: "log-place" }), note = h("span", { class: "log-note", role: "status" })
  const node = h("section", { class: "log-view", "aria-label": "Output of the attempt" },
    h("div", { class: "log-tools" }, chooser, search.node,
      h("span", { class: "log-buttons" }, first, last, wrap, download.node)),
    h("div", { class: "log-frame" }, box, bar),
    h("div", { class: "log-foot" }, place, note))

  function wraps() { return node.dataset.wrap !== "no" }

  function setWrap(on) {
    const seen = lines.anchor(box.getBoundingClientRect().top)
    keep(seen, () => {
      node.dataset.wrap = on ? "yes" : "no"
      wrap.setAttribute("aria-pressed", String(on))
    })
    app.draft(WRAP).set(on ? "yes" : "no")
    if (following) toEnd()
  }

  function drawBar() {
    const later = newest > attempt && attempt > 0
    bar.hidden = following && !later
    const fresh = news ? ` · ${news.toLocaleString("en")} new line${news === 1 ? "" : "s"}` : ""
    text(pausedWords, later ? `This is attempt ${attempt} · attempt ${newest} is the newest` : `Paused${fresh}`)
    text(resume, later ? "Show the newest" : "Follow")
  }

  function drawPlace() {
    const whole = lines.start === 0 && lines.end >= size
    text(place, !size ? "" : whole ? bytes(size) : `${bytes(lines.start)} – ${bytes(lines.end)} of ${bytes(size)}`)
    download.node.hidden = !size
  }

  function drawAttempts(list) {
    chooser.hidden = list.length < 2
    const wanted = list.map(({ attempt: n, phase }) => [String(n), `Attempt ${n} · ${phase}`])
    if (JSON.stringify(wanted) !== chooser.dataset.list) {
      chooser.dataset.list = JSON.stringify(wanted)
      chooser.replaceChildren(...wanted.map(([value, words]) => h("option", { value }, words)))
    }
    chooser.value = String(attempt)
  }

  // -- where the reader is

  function toEnd() {
    box.scrollTop = box.scrollHeight
    lastTop = box.scrollTop
  }

  const atEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight <= CLOSE

  // Change the lines while what is seen stays where it is.
  function keep(seen, change) {
    const before = seen && seen.getBoundingClientRect().top
    change()
    if (seen && seen.isConnected) box.scrollTop += seen.getBoundingClientRect().top - before
    lastTop = box.scrollTop
  }

  function pause() {
    if (!following) return
    following = false
    news = 0
    say("log-pause")
    drawBar()
  }

  function follow() {
    following = true
    news = 0
    asked = 0
    const behind = size - lines.end
    say("log-follow", lines.count && behind >= 0 && behind <= REACHABLE ? { from: lines.end } : {})
    toEnd()
    drawBar()
  }

  function jump(at) {
    following = false
    target = { at }
    say("log-at", { at })
    drawBar()
  }

  // Show a hit of the search, wherever in the file it is.
  function show(hit) {
    if (hit.at >= lines.start && hit.at < lines.end) {
      pause()
      reveal(hit)
    } else {
      jump(hit.at)
      target = hit
    }
  }

  function reveal(hit) {
    const seen = hit.line === undefined ? null : lines.reveal(hit)
    if (!seen) {
      box.scrollTop = 0
    } else {
      const outer = box.getBoundingClientRect(), inner = seen.getBoundingClientRect()
      box.scrollTop += inner.top - outer.top - box.clientHeight / 2
      const beside = inner.right > outer.right || inner.left < outer.left + 80
      if (beside) box.scrollLeft += inner.left - outer.left - box.clientWidth / 2
    }
    lastTop = box.scrollTop
    more()
  }

  // Ask for what stands before or after the window, when its reader comes near the end of it. Only ever because of
  // what they do: a line of 1 GB adds no height that could end a chain of shares.
  function more() {
    if (following || !box.clientHeight || Date.now() - asked < PATIENCE) return
    if (box.scrollTop < NEAR && lines.start > 0) ask("log-older", lines.start)
    else if (box.scrollHeight - box.scrollTop - box.clientHeight < NEAR && lines.end < size) ask("log-newer", lines.end)
  }

  // The reader wants to see what is further up, whether or not that can be scrolled to yet.
  function upwards() {
    if (box.scrollTop > 0 || lines.start > 0) pause()
    more()
  }

  function downwards() {
    if (!following && attempt && atEnd() && size - lines.end <= REACHABLE) follow()
    else more()
  }

  function ask(type, at) {
    asked = Date.now()
    say(type, { at })
  }

  box.addEventListener("scroll", () => {
    const up = box.scrollTop < lastTop
    const down = box.scrollTop > lastTop
    lastTop = box.scrollTop
    if (following && up && !atEnd()) pause()
    if (down) downwards()
    else more()
  }, { passive: true })
  box.addEventListener("wheel", (event) => {
    if (event.deltaY < 0) upwards()
    else if (event.deltaY > 0) downwards()
  }, { passive: true })
  const resized = new ResizeObserver(() => { if (following) toEnd() }) // also when it was hidden and is seen again
  resized.observe(box)
  node.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "f") {
      event.preventDefault()
      search.focus()
    } else if (event.target === box && !event.ctrlKey && !event.metaKey && !event.altKey) {
      if (event.key === "Home") { event.preventDefault(); jump(0) }
      else if (event.key === "End") { event.preventDefault(); follow() }
      else if (event.key === "/") { event.preventDefault(); search.focus() }
      else if (event.key === "PageUp" || event.key === "ArrowUp") upwards()
      else if (event.key === "PageDown" || event.key === "ArrowDown") downwards()
    }
  })

  // -- what the server tells

  function share(told) {
    asked = 0
    const other = told.attempt !== attempt
    unit = told.unit
    attempt = told.attempt
    newest = told.newest
    size = told.size
    if (told.place === "anew") {
      if (other) search.reset()
      lines.anew(told)
      if (told.following) following = true
    } else if (other || (told.place === "after" && told.start !== lines.end)) {
      if (following) say("log-follow") // what is here and what came don't join
    } else if (told.place === "after") {
      if (following) lines.after(told)
      else keep(lines.anchor(box.getBoundingClientRect().top), () => lines.after(told))
    } else if (told.end === lines.start) {
      keep(lines.anchor(box.getBoundingClientRect().top), () => lines.before(told))
    }
    hint.hidden = true
    if (told.note) tellNote(told.note)
    if (following) toEnd()
    else if (told.place === "anew" && target) {
      const wanted = target
      target = null
      reveal(wanted)
    }
    say("log-ack", { n: told.n })
  }

  function tellNote(words) {
    text(note, words.replace(/^(\d+) bytes/, (_, n) => bytes(Number(n))))
    setTimeout(() => text(note, ""), 8000)
  }

  function state(told) {
    unit = told.unit
    newest = told.newest
    size = told.size
    if (told.state === "paused") news = told.news
    else if (told.state !== "end") {
      attempt = told.attempt
      lines.clear()
      hint.hidden = false
      const nothing = told.state === "missing" && attempt < newest
      text(hint, told.text || (nothing ? "This attempt left no output." : WORDS[told.state]))
    }
  }

  node.dataset.wrap = "yes"
  wrap.setAttribute("aria-pressed", "true")
  if (app.draft(WRAP).get() === "no") setWrap(false)

  return {
    node,
    told(message) {
      if (message.what === "share") share(message)
      else if (message.what === "state") state(message)
      else if (message.what === "line") lines.number(message.line)
      else if (message.what === "search") search.told(message)
      if (attempt) chooser.value = String(attempt)
      drawBar()
      drawPlace()
    },
    attempts: drawAttempts,
    close() {
      resized.disconnect()
      download.cancel()
      search.close()
    },
  }
}
