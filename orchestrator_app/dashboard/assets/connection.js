// Whether what is shown is true: the measured latency while it is, since when it isn't, and the way back.

const PING = 2000
const SILENCE = 6000 // without a word from the server for so long, what is shown is stale
const PLACE = "orch-place"

export function makeConnection({ send, changed, back }) {
  let lastHeard = Date.now(), latency = null, lost = false, probing = false, pings = 0

  // Bokeh says at once when its socket closes; silence tells of the cases where none closes.
  for (const doc of window.Bokeh?.documents ?? []) doc.on_event?.("connection_lost", () => { lost = true; tell() })

  const silent = () => Date.now() - lastHeard >= SILENCE
  const tell = () => changed({ live: !lost && !silent(), latency, lastHeard })

  // The server has gone, or has come back without this session: then a new page is the way back to a live one.
  async function probe() {
    probing = true
    try {
      await fetch("/healthz", { cache: "no-store" })
      await new Promise((resolve) => setTimeout(resolve, 1500))
      if (silent()) {
        sessionStorage.setItem(PLACE, JSON.stringify({ href: location.href, y: scrollTop() }))
        location.reload()
      }
    } catch { /* not yet */ } finally { probing = false }
  }

  const beat = setInterval(() => {
    send({ type: "ping", n: ++pings })
    tell()
    if (silent() && !probing) probe()
  }, PING)

  return {
    heard() {
      const again = lost || silent()
      lastHeard = Date.now()
      lost = false
      if (!again) return
      tell()
      back()
    },
    pong(measured) {
      latency = measured
      tell()
    },
    // The page has its first content: go back to where a reload by ourselves left it.
    drawn() {
      if (latency === null) send({ type: "ping", n: ++pings }) // the first frame has just measured it
      const kept = sessionStorage.getItem(PLACE)
      if (!kept) return
      sessionStorage.removeItem(PLACE)
      const { href, y } = JSON.parse(kept)
      if (href === location.href) requestAnimationFrame(() => scroller().scrollTo({ top: y }))
    },
    end: () => clearInterval(beat),
  }
}

// What scrolls the page: the window, or the template's main area.
const scroller = () => document.querySelector("main") ?? document.scrollingElement
const scrollTop = () => scroller().scrollTop
