// One column of the board. It has the height of all its cards and holds those that are seen; the server is asked for
// others when they come near. Where cards come and go above, it scrolls along, so that what is read stays in place.

import { arrange, h, STATUSES, text } from "./dom.js"

export const ROW = 96 // from the top of one card to the top of the next: as in board.css
const MARGIN = 10 // cards that are kept on either side of those seen
const AHEAD = 25 // cards that are asked for on either side
const MOST = 300_000 // browsers can't lay out more of such a height

const BY_KEY = new Map(STATUSES.map((status) => [`status:${status.name}`, status]))

// `board`: card(name) gives the card of a unit that is known, or null; moved() is called when a column was scrolled.
export function makeColumn(key, board) {
  const status = BY_KEY.get(key)
  const title = status?.title ?? key.slice(key.indexOf(":") + 1)
  const count = h("span", { class: "count" }, "0")
  const list = h("div", { class: "cards", role: "list", "aria-label": title })
  const scroller = h("div", { class: "scroller", tabIndex: -1 }, list)
  const node = h("section", { class: `column ${status?.name ?? ""}`, "aria-label": title },
    h("h3", {}, status ? h("span", { class: "glyph", "aria-hidden": "true" }, status.glyph) : null, h("span", { class: "name", title }, title), " ", count), scroller)
  let offset = 0, names = [], anchor = null, asked = null, sent = ""

  const column = {
    key, node, scroller, total: 0,
    get names() { return names },
    at: (index) => names[index - offset] ?? null,
    place: (name) => { const at = names.indexOf(name); return at < 0 ? -1 : offset + at },

    apply(told) {
      column.total = told.total
      offset = told.offset
      names = told.names
      text(count, told.total.toLocaleString())
      node.classList.toggle("empty", told.total === 0)
      list.style.height = `${Math.min(told.total, MOST) * ROW}px`
      const now = anchor ? column.place(anchor.name) : -1
      if (now >= 0 && now !== anchor.at) {
        scroller.scrollTop += (now - anchor.at) * ROW
        anchor = { name: anchor.name, at: now }
      }
    },

    // Put the cards that are near what is seen where they belong. A card with the focus is kept wherever it is.
    draw(held) {
      const first = Math.floor(scroller.scrollTop / ROW), last = Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW)
      const cards = []
      for (let i = Math.max(0, first - MARGIN, offset); i < Math.min(last + MARGIN, offset + names.length); i++) {
        const card = board.card(names[i - offset])
        if (!card) continue
        card.node.style.top = `${i * ROW}px`
        card.node.setAttribute("aria-posinset", i + 1)
        card.node.setAttribute("aria-setsize", column.total)
        cards.push(card.node)
      }
      const kept = held && held.node.parentNode === list && !cards.includes(held.node) && elsewhere(held.node)
      if (kept) cards.push(held.node)
      arrange(list, cards)
      const top = scroller.scrollTop > ROW / 2 ? column.at(first) : null
      anchor = top ? { name: top, at: first } : null
      asked = want(first, last)
    },

    // The window that the server should tell of now; null where it knows.
    wanted() {
      const said = asked && JSON.stringify(asked)
      if (!asked || said === sent) return null
      sent = said
      return asked
    },

    reveal(index) {
      const top = index * ROW
      if (top < scroller.scrollTop) scroller.scrollTop = top
      else if (top + ROW > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW - scroller.clientHeight
    },
  }

  // Whether a card stands where this column has not been told of: then nothing says that its unit has left.
  function elsewhere(card) {
    const at = parseInt(card.style.top) / ROW
    return at < offset || at >= offset + names.length
  }

  function want(first, last) {
    const start = Math.max(0, first - AHEAD), end = last + AHEAD
    const has = offset <= Math.max(0, first - MARGIN) && offset + names.length >= Math.min(column.total, last + MARGIN)
    // Also an anchor is told of: the window moves along with it on the server.
    const known = asked && has && asked[2] === (anchor?.name ?? null)
    return known ? asked : [start, Math.min(200, end - start), anchor?.name ?? null, anchor?.at ?? 0]
  }

  scroller.addEventListener("scroll", () => board.moved(), { passive: true })
  return column
}
