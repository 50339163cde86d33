import { h } from "./dom.js"
export default () => ({ node: h("p", {}, "…"), frame() {} })
