// What a terminal program wrote, as runs of text with classes: colours and emphasis are kept, everything else that
// terminals obey (cursor moves, titles, links, clipboard writes, …) is dropped. Never HTML: a run's text goes into a
// text node, and its colours are numbers made here.

const SPECIAL = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g
const TEXT = 0, ESCAPE = 1, SEQUENCE = 2, STRING = 3, BETWEEN = 4
// What follows ESC: device control, start of string, system command, privacy message, application.
const STRINGS = "PX]^_"
const STRINGS_8 = "\x90\x98\x9d\x9e\x9f"
const LONGEST = 256 // characters of a sequence; what is longer has no meaning here
const LONGEST_STRING = 4096 // then it was none, and what follows is shown: nothing hides the rest of a log
const PLAIN = {
  fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, inverse: false, strike: false,
}

// A parser keeps its state from one share of a log to the next. `parse(text)` gives pieces, one per line or part of it:
//   { runs: [{ text, classes, fg, bg }], erased: characters to take off what the line had before, anew: the line begins
//     again (a carriage return), ended: the line ends here }
export function makeParser() {
  let mode = TEXT, kept = "", skipped = 0, style = PLAIN, look = lookOf(PLAIN)
  let returned = false, back = 0 // said, but of no effect before the next character
  let pieces, piece

  const begin = () => { piece = { runs: [], erased: 0, anew: false, ended: false } }

  function put(text) {
    if (!text) return
    if (returned) {
      piece.runs = []
      piece.erased = 0
      piece.anew = true
    } else if (back) erase(back)
    returned = false
    back = 0
    const last = piece.runs[piece.runs.length - 1]
    if (last && last.look === look) last.text += text
    else piece.runs.push({ text, look, classes: look.classes, fg: look.fg, bg: look.bg })
  }

  function erase(count) {
    while (count && piece.runs.length) {
      const run = piece.runs[piece.runs.length - 1], characters = Array.from(run.text.slice(-2 * count))
      const gone = Math.min(count, characters.length)
      run.text = run.text.slice(0, run.text.length - characters.slice(characters.length - gone).join("").length)
      count -= gone
      if (!run.text) piece.runs.pop()
    }
    if (!piece.anew) piece.erased += count
  }

  function newline() {
    returned = false
    back = 0
    piece.ended = true
    pieces.push(piece)
    begin()
  }

  function setStyle(codes) {
    style = styled(style, codes)
    look = lookOf(style)
  }

  // One character that is not plain text, outside of any sequence.
  function control(c) {
    if (c === "\n") newline()
    else if (c === "\r") returned = true
    else if (c === "\b") back = Math.min(back + 1, LONGEST_STRING)
    else if (c === "\x1b") mode = ESCAPE
    else if (c === "\x9b") start(SEQUENCE)
    else if (STRINGS_8.includes(c)) start(STRING)
    else if (c < "\x80" || c > "\x9f") put("·")
  }

  function start(into) {
    mode = into
    kept = ""
    skipped = 0
  }

  function step(c) {
    if (mode === STRING) {
      skipped += 1
      if (c === "\x07" || c === "\x9c" || c === "\x18" || c === "\x1a" || skipped > LONGEST_STRING) mode = TEXT
      else if (c === "\x1b") mode = ESCAPE
      else if (c === "\n") { mode = TEXT; control(c) }
    } else if (c < " " || c === "\x7f" || (c >= "\x80" && c <= "\x9f")) {
      mode = TEXT
      control(c)
    } else if (mode === ESCAPE) {
      if (c === "[") start(SEQUENCE)
      else if (STRINGS.includes(c)) start(STRING)
      else mode = c <= "/" ? BETWEEN : TEXT
    } else if (mode === BETWEEN) {
      if (c > "/") mode = TEXT
    } else if (c >= "@" && c <= "~") {
      mode = TEXT
      if (c === "m" && /^[0-9;:]*$/.test(kept)) setStyle(kept)
    } else if (c > "~" || kept.length >= LONGEST) {
      mode = TEXT
      put(c)
    } else kept += c
  }

  return {
    parse(text) {
      pieces = []
      begin()
      let at = 0
      while (at < text.length) {
        if (mode !== TEXT) {
          step(text[at])
          at += 1
          continue
        }
        SPECIAL.lastIndex = at
        const special = SPECIAL.exec(text)
        const end = special ? special.index : text.length
        put(text.slice(at, end))
        if (special) control(special[0])
        at = end + 1
      }
      if (piece.runs.length || piece.erased || piece.anew) pieces.push(piece)
      return pieces
    },
  }
}

// The style after the parameters of one "m" sequence.
function styled(before, said) {
  const style = { ...before }
  const codes = said.split(";")
  for (let i = 0; i < codes.length; i += 1) {
    const parts = codes[i].split(":")
    const code = number(parts[0])
    if (code === 0) Object.assign(style, PLAIN)
    else if (code === 1) style.bold = true
    else if (code === 2) style.dim = true
    else if (code === 3) style.italic = true
    else if (code === 4) style.underline = parts[1] !== "0"
    else if (code === 7) style.inverse = true
    else if (code === 9) style.strike = true
    else if (code === 21) style.underline = true
    else if (code === 22) style.bold = style.dim = false
    else if (code === 23) style.italic = false
    else if (code === 24) style.underline = false
    else if (code === 27) style.inverse = false
    else if (code === 29) style.strike = false
    else if (code >= 30 && code <= 37) style.fg = code - 30
    else if (code === 39) style.fg = null
    else if (code >= 40 && code <= 47) style.bg = code - 40
    else if (code === 49) style.bg = null
    else if (code >= 90 && code <= 97) style.fg = code - 82
    else if (code >= 100 && code <= 107) style.bg = code - 92
    else if (code === 38 || code === 48 || code === 58) {
      const colour = parts.length > 1 ? parts.slice(1) : codes.slice(i + 1, i + 5)
      if (parts.length === 1) i += number(colour[0]) === 2 ? 4 : 2
      const made = extended(colour, parts.length > 1)
      if (made !== undefined && code !== 58) style[code === 38 ? "fg" : "bg"] = made
    }
  }
  return style
}

const number = (said) => Math.min(parseInt(said || "0", 10) || 0, 999)

// One of 256 colours, or red, green and blue. With colons there may be a colour space before these.
function extended(parts, colons) {
  const kind = number(parts[0])
  if (kind === 5 && parts.length > 1) {
    const index = number(parts[1])
    if (index > 255) return undefined
    if (index < 16) return index
    if (index > 231) return [8 + 10 * (index - 232), 8 + 10 * (index - 232), 8 + 10 * (index - 232)]
    const cube = index - 16
    return [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map((level) => (level ? 55 + 40 * level : 0))
  }
  if (kind === 2) {
    const rgb = (colons && parts.length > 4 ? parts.slice(2, 5) : parts.slice(1, 4)).map(number)
    if (rgb.length === 3 && rgb.every((value) => value <= 255)) return rgb
  }
  return undefined
}

// Classes for a style, and its colours where they are not among the sixteen that the themes define.
function lookOf(style) {
  const classes = []
  for (const name of ["bold", "dim", "italic", "underline", "strike"]) if (style[name]) classes.push(`ansi-${name}`)
  let [front, behind] = style.inverse ? [style.bg ?? "behind", style.fg ?? "front"] : [style.fg, style.bg]
  if (Array.isArray(behind) && (front === null || front === "behind")) front = isBright(behind) ? 0 : 15
  const look = { classes, fg: null, bg: null }
  for (const [side, colour] of [["fg", front], ["bg", behind]]) {
    if (colour === null) continue
    if (Array.isArray(colour)) {
      classes.push(`ansi-${side}`)
      look[side] = `rgb(${colour.join(", ")})`
    } else classes.push(`ansi-${side}-${colour}`)
  }
  if (behind !== null && behind !== "front") classes.push("ansi-on")
  return look
}

const isBright = ([red, green, blue]) => 0.3 * red + 0.59 * green + 0.11 * blue > 140
