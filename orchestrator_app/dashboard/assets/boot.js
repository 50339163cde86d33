// What Panel runs: everything else is fetched as modules of their own, so a browser keeps them between visits.
export function render(context) {
  import(new URL("/assets/console.js", location.href).href).then((console) => console.start(context))
}
