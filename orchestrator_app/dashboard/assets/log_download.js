// The whole output as a file: fetched from the API piece by piece, so nothing has to hold it at once but the browser's
// own store of files.

import { h, text } from "./dom.js"

const PIECE = 1024 * 1024

export function makeDownload(app, what, bytes) {
  let running = null
  const node = h("button", { class: "quiet", title: "Save the whole output as a file", hidden: true,
    onclick: () => (running ? cancel() : begin()) }, "Download")

  function cancel() {
    if (running) running.abort()
  }

  async function begin() {
    const { unit, attempt } = what()
    running = new AbortController()
    try {
      const parts = []
      let at = 0, size = 1
      while (at < size) {
        const address = `/api/v1/units/${encodeURIComponent(unit)}/log?attempt=${attempt}&offset=${at}&limit=${PIECE}`
        const answer = await fetch(address, { headers: { Accept: "text/plain" }, signal: running.signal })
        if (!answer.ok) throw new Error(`the server said ${answer.status}`)
        parts.push(await answer.blob())
        if (!parts[parts.length - 1].size) break
        at = Number(answer.headers.get("X-Next-Offset"))
        if (size === 1) size = Number(answer.headers.get("X-Log-Size")) // what is written meanwhile stays out
        text(node, `${bytes(at)} of ${bytes(size)} · Cancel`)
      }
      save(new Blob(parts, { type: "text/plain" }), `${unit}-${attempt}.log`)
    } catch (error) {
      if (error.name !== "AbortError") app.toast(`The output was not downloaded: ${error.message}`, "error")
    } finally {
      running = null
      text(node, "Download")
    }
  }

  function save(blob, name) {
    const href = URL.createObjectURL(blob)
    const link = h("a", { href, download: name })
    link.click()
    setTimeout(() => URL.revokeObjectURL(href), 60_000)
  }

  return { node, cancel }
}
