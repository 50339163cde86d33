// Small words for making and changing elements. What is said by units and agents goes through text nodes only.

export const STATUSES = [
  { name: "NEEDS_ATTENTION", title: "Needs attention", glyph: "!" },
  { name: "RUNNING", title: "Running", glyph: "▶" },
  { name: "READY", title: "Ready", glyph: "○" },
  { name: "BLOCKED", title: "Blocked", glyph: "…" },
  { name: "PAUSED", title: "Paused", glyph: "‖" },
  { name: "DONE", title: "Done", glyph: "✓" },
  { name: "CANCELLED", title: "Cancelled", glyph: "✕" },
]
const BY_NAME = new Map(STATUSES.map((status) => [status.name, status]))

// An element. Properties: `class`, `on…` listeners, what the element has as a property, else attributes.
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag)
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value)
    else if (name === "class") node.className = value
    else if (name in node && name !== "list") node[name] = value
    else node.setAttribute(name, value)
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false))
  return node
}

export function text(node, value) {
  const wanted = String(value ?? "")
  if (node.textContent !== wanted) node.textContent = wanted
}

export function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000))
  if (s < 60) return `${s}s`
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`
  if (s < 86400) return `${Math.floor(s / 3600)}h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")}m`
  return `${Math.floor(s / 86400)}d ${Math.floor((s % 86400) / 3600)}h`
}

export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false })

// The time of day, with the date where that isn't today's.
export function moment(ms) {
  const then = new Date(ms)
  return then.toDateString() === new Date().toDateString()
    ? clock(ms) : `${then.toLocaleDateString([], { month: "short", day: "numeric" })}, ${clock(ms)}`
}

// Put `nodes` into `parent` in this order, moving only what is out of place.
export function arrange(parent, nodes) {
  let at = parent.firstElementChild
  for (const node of nodes) {
    if (node === at) at = at.nextElementSibling
    else parent.insertBefore(node, at)
  }
  while (at) {
    const next = at.nextElementSibling
    at.remove()
    at = next
  }
}

// Terminal colours and other control characters say nothing here.
export const plain = (raw) => String(raw ?? "")
  .replace(/\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b./g, "")
  .replace(/[^\n]*\r(?!\n)/g, "").replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, "·")

export function statusBadge(name) {
  const status = BY_NAME.get(name) ?? { title: name, glyph: "?" }
  return h("span", { class: `status ${name}` }, h("span", { "aria-hidden": "true" }, status.glyph), ` ${status.title}`)
}

// Where the focus is, also inside a shadow root.
export function focused(node) {
  const active = node.getRootNode().activeElement
  return active && node.contains(active) ? active : null
}
