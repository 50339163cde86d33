// The lines of a log that are in the page: a bounded window of the file, which grows and shrinks at both ends. Each
// line knows the bytes it stands between, so a place in the file is a place in the page.

import { makeParser } from "./ansi.js"
import { h } from "./dom.js"

const MOST_LINES = 5000
const MOST_CHARACTERS = 4_000_000
const BLOCK = 200 // lines that are laid out, and let go, together
const BLOCK_CHARACTERS = 100_000
const CUT = 4096 // characters of a line that are shown at first
const KEPT = 262_144 // characters of a line that can be shown at all
const MOST_MARKS = 1000 // of one line

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")
const pattern = (text) => (text ? new RegExp(escaped(text), "giu") : null)

export function makeLines() {
  const node = h("div", { class: "log-lines" })
  let blocks = [], parser = makeParser(), open = null // the line that has no end yet, last in the window
  let start = 0, end = 0, count = 0, characters = 0
  let numbered = null, shift = 0 // the number of the line that was first once, and how many lines it stands before it
  let marks = null, current = null

  // -- lines

  function addRuns(line, runs) {
    for (const run of runs) {
      const room = KEPT - line.kept
      if (room > 0) {
        line.runs.push(run.text.length > room ? { ...run, text: run.text.slice(0, room) } : run)
        line.kept += Math.min(room, run.text.length)
      }
      line.length += run.text.length
    }
  }

  function erase(line, many) {
    while (many > 0 && line.runs.length && line.length === line.kept) {
      const run = line.runs[line.runs.length - 1], gone = Math.min(many, run.text.length)
      line.runs[line.runs.length - 1] = { ...run, text: run.text.slice(0, run.text.length - gone) }
      if (gone === run.text.length) line.runs.pop()
      line.kept -= gone
      line.length -= gone
      many -= gone
    }
  }

  function change(line, piece, bytes) {
    line.bytes += bytes
    if (piece.anew) {
      line.runs = []
      line.kept = line.length = 0
      line.anew = true
    }
    erase(line, piece.erased)
    addRuns(line, piece.runs)
  }

  function newLine(at) {
    const empty = h("div", { class: "log-text" })
    return { start: at, bytes: 0, runs: [], kept: 0, length: 0, anew: false, whole: false, node: empty }
  }

  function runNode(run, from, to) {
    const span = h("span", { class: run.classes.join(" ") }, run.text.slice(from, to))
    if (run.fg) span.style.setProperty("--ansi-fg", run.fg)
    if (run.bg) span.style.setProperty("--ansi-bg", run.bg)
    return span
  }

  const plainOf = (line) => line.runs.map((run) => run.text).join("")

  // Where the text that is searched for stands in a line: [[from, to], …].
  function hitsOf(line, shown) {
    if (!marks || !line.runs.length) return []
    const found = []
    for (const match of plainOf(line).matchAll(marks)) {
      if (match.index >= shown || found.length >= MOST_MARKS) break
      found.push([match.index, match.index + match[0].length])
    }
    return found
  }

  function draw(line) {
    const shown = line.whole ? line.kept : Math.min(line.kept, CUT)
    const hits = hitsOf(line, shown)
    const parts = []
    let at = 0, next = 0, mark = null
    for (const run of line.runs) {
      let from = 0
      const until = Math.min(run.text.length, shown - at)
      while (from < until) {
        while (next < hits.length && hits[next][1] <= at + from) { next += 1; mark = null }
        const hit = hits[next]
        const inside = hit && hit[0] <= at + from
        const to = Math.min(until, hit ? (inside ? hit[1] : hit[0]) - at : until)
        const piece = run.classes.length ? runNode(run, from, to) : document.createTextNode(run.text.slice(from, to))
        if (inside) {
          if (!mark) parts.push(mark = h("mark", {}))
          mark.append(piece)
        } else parts.push(piece)
        from = to
      }
      at += run.text.length
      if (at >= shown) break
    }
    if (line.length > shown) parts.push(moreNode(line, line.length - shown))
    line.node.replaceChildren(...parts)
    line.marked = hits.length > 0
    if (current && current.line === line) markCurrent()
  }

  function moreNode(line, more) {
    const words = `… ${more.toLocaleString("en")} more character${more === 1 ? "" : "s"}`
    if (line.whole) return h("span", { class: "log-more" }, `${words}: too many to show, but in the download`)
    return h("button", { class: "log-more", onclick: () => { line.whole = true; draw(line) } }, words)
  }

  function markCurrent() {
    for (const old of node.querySelectorAll(".is-current")) old.classList.remove("is-current")
    if (!current) return null
    const all = current.line.node.querySelectorAll("mark")
    const mark = all[Math.min(current.nth, all.length - 1)] ?? null
    current.line.node.classList.add("is-current")
    if (mark) mark.classList.add("is-current")
    return mark ?? current.line.node
  }

  // -- blocks

  const newBlock = () => ({ node: h("div", { class: "log-block" }), lines: [] })
  const weight = (block) => block.lines.reduce((sum, line) => sum + line.kept, 0)
  const isFull = (block) => block.lines.length >= BLOCK || weight(block) > BLOCK_CHARACTERS

  // The lines of a share, in order; `piece.ended` says which are over.
  function* piecesOf(share, from) {
    const pieces = from.parse(share.text)
    for (const [index, bytes] of share.lengths.entries()) {
      yield [pieces[index] ?? { runs: [], erased: 0, anew: false, ended: false }, bytes]
    }
  }

  function clear(at = 0) {
    blocks = []
    node.replaceChildren()
    parser = makeParser()
    open = current = numbered = null
    start = end = at
    count = characters = shift = 0
    if (at === 0) numbered = 1
  }

  function append(share) {
    const touched = new Set()
    let at = share.start, block = blocks[blocks.length - 1]
    const fresh = []
    for (const [piece, bytes] of piecesOf(share, parser)) {
      const line = open ?? newLine(at)
      if (!open) {
        if (!block || isFull(block)) {
          block = newBlock()
          blocks.push(block)
          fresh.push(block.node)
        }
        block.lines.push(line)
        count += 1
      }
      const before = line.kept
      change(line, piece, bytes)
      characters += line.kept - before
      touched.add(line)
      open = piece.ended ? null : line
      at += bytes
    }
    end = share.end
    for (const line of touched) draw(line)
    for (const each of blocks) {
      const drawn = each.node.childElementCount
      if (drawn < each.lines.length) each.node.append(...each.lines.slice(drawn).map((line) => line.node))
    }
    node.append(...fresh)
  }

  function prepend(share) {
    const fresh = []
    let at = share.start, block = null, added = 0, part = null
    for (const [piece, bytes] of piecesOf(share, makeParser())) {
      const line = newLine(at)
      change(line, piece, bytes)
      at += bytes
      if (!piece.ended && count) {
        part = line
        break
      }
      if (!block || isFull(block)) fresh.push(block = newBlock())
      block.lines.push(line)
      draw(line)
      added += 1
      characters += line.kept
    }
    if (part) joinFirst(part)
    for (const each of fresh) each.node.append(...each.lines.map((line) => line.node))
    node.prepend(...fresh.map((each) => each.node))
    blocks = [...fresh, ...blocks]
    count += added
    shift -= added
    start = share.start
  }

  // The beginning of the first line, which is so long that only its end was in the window.
  function joinFirst(part) {
    const first = blocks[0].lines[0]
    const runs = first.runs, hidden = first.length - first.kept
    characters -= first.kept
    first.start = part.start
    first.bytes += part.bytes
    if (!first.anew) {
      first.runs = part.runs
      first.kept = part.kept
      first.length = part.length
      addRuns(first, runs)
      first.length += hidden
    }
    characters += first.kept
    draw(first)
  }

  // Let go of what is too much, from the end that is not being read.
  function trim(fromStart) {
    while (blocks.length > 1 && (count > MOST_LINES || characters > MOST_CHARACTERS)) {
      const gone = fromStart ? blocks.shift() : blocks.pop()
      gone.node.remove()
      count -= gone.lines.length
      characters -= weight(gone)
      if (current && gone.lines.includes(current.line)) current = null
      if (fromStart) {
        start = blocks[0].lines[0].start
        shift += gone.lines.length
      } else {
        end = gone.lines[0].start
        open = null
        parser = makeParser()
      }
    }
  }

  function number() {
    const known = numbered !== null
    node.classList.toggle("is-numbered", known)
    if (!known) return
    let before = numbered + shift - 1
    for (const block of blocks) {
      const wanted = `log-line ${before}`
      if (block.number !== wanted) block.node.style.counterReset = block.number = wanted
      before += block.lines.length
    }
    node.style.setProperty("--log-digits", String(Math.max(3, String(before).length)))
  }

  function lineAt(at) {
    const has = (line) => at >= line.start && at < line.start + line.bytes
    return blocks.find((block) => block.lines.some(has))?.lines.find(has) ?? null
  }

  // The first line below a place on the screen.
  function lineBelow(top) {
    const below = (node) => node.getBoundingClientRect().bottom > top
    return blocks.find((block) => below(block.node))?.lines.find((line) => below(line.node)) ?? null
  }

  return {
    node,
    get start() { return start },
    get end() { return end },
    get count() { return count },
    clear() { clear(); number() },
    anew(share) { clear(share.start); append(share); number() },
    after(share) { append(share); trim(true); number() },
    before(share) { prepend(share); trim(false); number() },
    // Line `line` of the file is the one that was first when the window was made anew at byte `at`.
    number(line) { numbered = line; number() },
    mark(text) {
      marks = pattern(text)
      current = null
      markCurrent()
      for (const block of blocks) for (const line of block.lines) {
        if (line.marked || (marks && hitsOf(line, Infinity).length)) draw(line)
      }
    },
    // The element of a hit, which becomes the current one; null if its line is not in the window.
    reveal(hit) {
      const line = lineAt(hit.at)
      if (!line) return null
      const nth = line.start === hit.line ? hit.nth : nearest(line, hit.at)
      const place = hitsOf(line, Infinity)[nth]
      if (place && place[1] > CUT) line.whole = true
      current = { line, nth }
      draw(line)
      return markCurrent()
    },
    // The byte at which the first line below a place on the screen begins.
    byteAt: (top) => lineBelow(top)?.start ?? end,
    // A line that is seen now, to be seen at the same place after a change.
    anchor: (top) => lineBelow(top)?.node ?? null,
  }

  // Of the hits in a line that began before the window, the one that stands about where the file has it.
  function nearest(line, at) {
    const where = ((at - line.start) / Math.max(1, line.bytes)) * line.length
    const hits = hitsOf(line, Infinity)
    const off = (index) => Math.abs(hits[index][0] - where)
    return hits.reduce((best, _, index) => (off(index) < off(best) ? index : best), 0)
  }
}
