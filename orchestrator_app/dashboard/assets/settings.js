// The settings in force, where each comes from, and what the server is.

import { h, moment, plain, text } from "./dom.js"

export default function make(app, args) {
  const found = h("span", { class: "count", role: "status" }), tables = h("div", {})
  const search = h("input", { type: "search", class: "search", placeholder: "Find a setting", "aria-label": "Find a setting", value: args.q ?? "", oninput: filter })
  const changed = h("input", { type: "checkbox", checked: args.set === "1", onchange: filter })
  const about = h("dl", { class: "facts" })
  const where = h("p", { class: "hint" })
  const rows = []
  const node = h("section", { class: "settings" },
    h("div", { class: "tools" }, h("h2", {}, "Settings"), search, h("label", { class: "inline" }, changed, "only those set in the file"), found),
    where, tables, h("h2", {}, "This server"), about)

  function filter() {
    const wanted = search.value.trim().toLowerCase()
    let n = 0
    for (const { row, said, set } of rows) {
      row.hidden = !said.includes(wanted) || (changed.checked && !set)
      if (!row.hidden) n += 1
    }
    for (const table of tables.children) table.hidden = ![...table.querySelectorAll("tbody tr")].some((row) => !row.hidden)
    text(found, n === rows.length ? "" : `${n} of ${rows.length}`)
    app.keep({ q: search.value.trim(), set: changed.checked ? "1" : "" })
  }

  function section(name, settings) {
    const body = h("tbody", {})
    for (const one of settings) {
      const set = one.source !== "default"
      const row = h("tr", { class: set ? "set" : "" },
        h("th", { scope: "row" }, one.name.slice(name.length + 1), h("div", { class: "meaning" }, one.meaning)),
        h("td", {}, one.value === "" ? h("span", { class: "none" }, "none") : h("code", {}, plain(one.value))),
        h("td", {}, set ? h("span", { class: "tag of-file" }, one.source) : h("span", { class: "tag" }, "default"),
          set && one.default && one.default !== one.value ? h("div", { class: "meaning" }, "default ", h("code", {}, one.default)) : null))
      rows.push({ row, set, said: `${one.name} ${one.value} ${one.meaning} ${one.source}`.toLowerCase() })
      body.append(row)
    }
    return h("table", { class: "table" }, h("caption", {}, `[${name}]`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Setting"), h("th", { scope: "col" }, "Value"), h("th", { scope: "col" }, "From"))), body)
  }

  return {
    node,
    frame(told) {
      const sections = new Map()
      for (const one of told.settings) {
        const name = one.name.slice(0, one.name.lastIndexOf("."))
        sections.set(name, [...(sections.get(name) ?? []), one])
      }
      rows.length = 0
      tables.replaceChildren(...[...sections].map(([name, settings]) => section(name, settings)))
      where.replaceChildren("Read from ", h("code", {}, told.file), " when the server started. Edit the file, then restart the server to change them; running agents go on meanwhile with orch stop --leave-agents.")
      const { version, pid, started, recovered } = told.server
      const facts = [["Version", version], ["Process", String(pid)], ["Started", started ? moment(started) : ""], ["Recovered at its start", recovered]]
      about.replaceChildren(...facts.filter(([, value]) => value).flatMap(([label, value]) => [h("dt", {}, label), h("dd", {}, value)]))
      filter()
    },
  }
}
