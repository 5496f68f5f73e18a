/** How the page looks: in dark and in light as the reader has it, and on the width of a phone. */
export const PAGE_STYLE = String.raw`
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --sheet: #fff; --ink: #1a1f27; --quiet: #5a6573; --line: #dde2e8;
  --accent: #0b62b8; --good: #1a7f37; --warn: #9a5b00; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #11151a; --sheet: #1a2027; --ink: #e6eaef; --quiet: #9aa6b4; --line: #303944;
    --accent: #6cb2ff; --good: #57c97a; --warn: #e8b14a; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
main, header { max-width: 1280px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 16px; display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; }
h1 { font-size: 20px; margin: 0; }
h2 { font-size: 16px; margin: 0 0 8px; }
p { margin: 6px 0; }
section { background: var(--sheet); border: 1px solid var(--line); border-radius: 8px; padding: 14px; margin: 12px 0; }
.quiet { color: var(--quiet); }
.badge { border: 1px solid currentColor; border-radius: 999px; padding: 0 9px; font-size: 13px; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
#cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; margin: 12px 0; }
#cards div { background: var(--sheet); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; min-width: 0; }
#cards b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
#cards span { color: var(--quiet); font-size: 13px; }
svg { width: 100%; height: 56px; display: block; }
polyline { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.in { stroke: var(--accent); } .out { stroke: var(--good); }
.keyin { color: var(--accent); } .keyout { color: var(--good); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-top: 1px solid var(--line); vertical-align: top; }
th { border-top: 0; color: var(--quiet); font-weight: 600; font-size: 13px; white-space: nowrap; }
td { max-width: 340px; }
bdi { unicode-bidi: isolate; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; overflow-wrap: anywhere; }
td[data-label=name] bdi { min-width: 120px; }
td[data-label=user] bdi { min-width: 84px; }
td[data-label=address] bdi, td[data-label=state] bdi { overflow-wrap: break-word; }
button, input, select { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line); border-radius: 6px; padding: 4px 10px; min-width: 0; white-space: nowrap; }
button { cursor: pointer; } button:disabled { opacity: .45; cursor: default; }
th button { border: 0; background: none; padding: 0; color: inherit; font-weight: inherit; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
form, .bar { display: flex; flex-wrap: wrap; gap: 8px; margin-bottom: 10px; align-items: center; }
form input { flex: 1 1 130px; }
#hint { min-height: 1.45em; margin: 4px 0 0; }
#why:empty, #faults:empty { display: none; }
[hidden] { display: none !important; }
@media (max-width: 700px) {
  main, header { padding-left: 10px; padding-right: 10px; }
  #cards { grid-template-columns: 1fr 1fr; gap: 8px; }
  #cards b { font-size: 18px; }
  .stack thead { display: none; }
  .stack tr { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); grid-auto-flow: dense; gap: 0 10px; border-top: 1px solid var(--line); padding: 8px 0; }
  .stack td { display: flex; gap: 10px; align-items: baseline; border: 0; padding: 1px 0; max-width: none; }
  .stack td::before { content: attr(data-label); color: var(--quiet); flex: 0 0 76px; font-size: 13px; }
  .stack td.wide, .stack td:not([data-label]) { grid-column: 1 / -1; }
  .stack td bdi { min-width: 0; }
  .stack td:empty { display: none; }
  button, input, select { min-height: 40px; }
}
`;
