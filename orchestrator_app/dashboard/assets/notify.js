// Browser notifications: only when something new needs attention, only for those who asked for them, and many at once
// are one.

import { h, plain, text } from "./dom.js"

const WANTED = "orch-notify"
const GATHER = 5000

export function makeBell(app) {
  const node = h("button", { class: "quiet bell", onclick: toggle })
  let gathered = [], count = 0, timer = null
  const wanted = () => localStorage.getItem(WANTED) === "yes"
  const able = () => "Notification" in window
  const on = () => able() && Notification.permission === "granted" && wanted()

  function draw() {
    node.setAttribute("aria-pressed", String(on()))
    node.classList.toggle("ringing", on())
    text(node, on() ? "✓ Notifies" : "Notify me")
    node.title = on() ? "A browser notification comes when something new needs attention; click to end that"
      : "Have a browser notification when something new needs attention"
  }

  // Permission is asked for on this click only.
  async function toggle() {
    if (on()) { localStorage.removeItem(WANTED); return draw() }
    if (!able()) return app.toast("This browser has no notifications, or allows them only on https and localhost", "error")
    const answer = Notification.permission === "default" ? await Notification.requestPermission() : Notification.permission
    if (answer === "granted") localStorage.setItem(WANTED, "yes")
    else if (answer === "denied") app.toast("The browser refuses notifications from this page: allow them in its settings for this site, then try again", "error")
    else app.toast("No notifications, then: the browser was not allowed to show any")
    draw()
  }

  function ring() {
    timer = null
    const items = gathered, n = count
    gathered = []
    count = 0
    const waits = app.head?.attention ?? n // what was settled meanwhile needs nobody
    const newest = Math.max(...items.map((item) => item.id))
    if (!on() || !waits || !first(newest)) return
    const one = n === 1 ? items[0] : null
    const lines = items.slice(0, 3).map((item) => plain(item.title).slice(0, 120))
    if (n > lines.length) lines.push(`and ${n - lines.length} more`)
    try {
      const shown = new Notification(one ? "Something needs you" : `${n.toLocaleString()} things need you`,
        { body: lines.join("\n"), tag: `orch-${app.head?.project}-${newest}` })
      shown.onclick = () => {
        window.focus()
        if (one) app.show("unit", { unit: one.unit })
        else app.show("overview", {})
        shown.close()
      }
    } catch (error) {
      localStorage.removeItem(WANTED) // some browsers of phones have the name but not the thing
      app.toast(`This browser shows no notifications: ${error.message}`, "error")
      draw()
    }
  }

  // Of several tabs only the first one speaks.
  function first(newest) {
    const key = `${WANTED}-last-${app.head?.project}`
    const [id, at] = (localStorage.getItem(key) ?? "").split(" ").map(Number)
    if (id >= newest && Date.now() - at < 2 * GATHER) return false
    localStorage.setItem(key, `${newest} ${Date.now()}`)
    return true
  }

  const other = (event) => { if (event.key === WANTED) draw() }
  window.addEventListener("storage", other)
  draw()
  return {
    node,
    // The newest head, and the items that came up since the page knows of any: {items: [{id, unit, title}], count}.
    head(_, news) {
      if (!news?.count || !on()) return
      gathered.push(...news.items)
      count += news.count
      timer ??= setTimeout(ring, GATHER)
    },
    end() {
      clearTimeout(timer)
      window.removeEventListener("storage", other)
    },
  }
}
