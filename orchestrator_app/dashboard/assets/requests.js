// What the operator asked for and was not answered yet. A connection that breaks in the middle loses neither the wish nor
// its answer: it is kept for this tab, through a reload too, and sent again with its key, by which the server knows it.

const KEPT = "orch-unanswered"
const OLD = 120_000 // milliseconds after which nobody expects a wish to be carried out any more

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("")

export function makeRequests({ send, toast }) {
  const waiting = new Map() // key -> { wish, at, settle }
  for (const [key, wish, at] of JSON.parse(sessionStorage.getItem(KEPT) ?? "[]")) {
    waiting.set(key, { wish, at, settle: (outcome) => toast(outcome.ok ? `${said(wish)}: done` : outcome.text, outcome.ok ? "info" : "error") })
  }

  const said = (wish) => (wish.unit ? `${wish.kind} ${wish.unit}` : wish.kind)
  const keep = () => sessionStorage.setItem(KEPT, JSON.stringify([...waiting].map(([key, { wish, at }]) => [key, wish, at])))

  return {
    ask(wish, settled) {
      const key = newKey()
      return new Promise((resolve) => {
        waiting.set(key, { wish, at: Date.now(), settle: (outcome) => { settled(outcome); resolve(outcome) } })
        keep()
        send({ type: "do", id: key, key, ...wish })
      })
    },
    answered(outcome) {
      const one = waiting.get(outcome.done)
      if (!one) return
      waiting.delete(outcome.done)
      keep()
      one.settle(outcome)
    },
    // The connection is back, or the page is new.
    sendAgain() {
      for (const [key, { wish, at, settle }] of [...waiting]) {
        if (Date.now() - at < OLD) { send({ type: "do", id: key, key, ...wish }); continue }
        waiting.delete(key)
        settle({ ok: false, text: `${said(wish)}: the connection was lost, and whether it was done is not known: look first` })
      }
      keep()
    },
  }
}
