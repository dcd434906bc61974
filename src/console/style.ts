/** The one style sheet, served from our own origin. Both schemes of colour, no picture, no font from anywhere. */
export const STYLE = `
:root { color-scheme: light dark;
  --ink: light-dark(#16202b, #e6eaee); --soft: light-dark(#53606d, #9eabb8); --paper: light-dark(#fbfcfd, #12161b);
  --raised: light-dark(#ffffff, #1a2027); --line: light-dark(#d5dce3, #323b45); --link: light-dark(#0b5cad, #7fbcff);
  --theirs: light-dark(#fff8e6, #262114); --string: light-dark(#fdeec2, #383016); --theirs-line: light-dark(#d9a21b, #a97f1c);
  --good: light-dark(#0f6b3a, #63d297); --bad: light-dark(#b0261c, #ff948a); --wait: light-dark(#8a5a00, #f0b849);
  --mark: light-dark(#ffd9d4, #5c1f19); --mark-ink: light-dark(#7d120a, #ffc9c3); }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; font: 1rem/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; top: .5rem; background: var(--raised); padding: .5rem 1rem; z-index: 1; }
header { border-bottom: 1px solid var(--line); background: var(--raised); }
header > div, main, footer { max-width: 60rem; margin: 0 auto; padding: 0 1rem; }
header > div { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem 1.5rem; min-height: 3.5rem; }
header .brand { font-weight: 700; letter-spacing: .02em; text-decoration: none; color: var(--ink); }
header nav ul { display: flex; gap: 1.25rem; list-style: none; margin: 0; padding: 0; }
header .who { margin-left: auto; color: var(--soft); overflow-wrap: anywhere; }
main { padding-top: 1.5rem; padding-bottom: 4rem; }
footer { color: var(--soft); font-size: .875rem; padding-bottom: 2rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
a { color: var(--link); } p { margin: .5rem 0; } .soft { color: var(--soft); } .nowrap { white-space: nowrap; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 4px; }
code, pre, .id { font: .9em/1.55 ui-monospace, "SF Mono", Menlo, Consolas, monospace; } code, .id { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .35rem 1.25rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 36rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .6rem; } header .who { margin-left: 0; }
  .changes thead { position: absolute; left: -99rem; } .changes tr, .changes td { display: block; } .changes tr { margin-bottom: 1rem; }
  .changes td::before { content: attr(data-what) ": "; color: var(--soft); font-size: .875rem; } }
.state { display: inline-block; font-weight: 650; border: 1px solid currentColor; border-radius: 99px; padding: .05rem .7rem; font-size: .875rem; }
.pending { color: var(--wait); } .approved, .used { color: var(--good); } .denied, .void, .expired { color: var(--soft); } .denied { color: var(--bad); }
ul.cards { list-style: none; margin: 0; padding: 0; display: grid; gap: .75rem; }
ul.cards > li { border: 1px solid var(--line); border-radius: 10px; background: var(--raised); padding: .8rem 1rem; }
ul.cards a { font-weight: 600; overflow-wrap: anywhere; }
.theirs { border: 1px solid var(--theirs-line); border-left-width: 6px; border-radius: 8px; background: var(--theirs); padding: .7rem 1rem 1rem; margin: .75rem 0;
  contain: paint; overflow: clip; }
.theirs > .label { font-size: .875rem; font-weight: 650; margin: 0 0 .4rem; } .theirs h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
pre.json { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; direction: ltr; line-height: 1.6; }
/* Where a string begins and ends is seen also where it wraps or is full of blanks. */
pre.json bdi.foreign { background: var(--string); border-radius: 3px; -webkit-box-decoration-break: clone; box-decoration-break: clone; }
bdi.foreign { unicode-bidi: isolate; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: var(--mark); color: var(--mark-ink); border-radius: 3px; padding: 0 .15em; font-weight: 650; }
mark.lookalike::after { content: " (" attr(title) ")"; font-size: .85em; font-weight: 400; }
.alarm { border: 1px solid var(--bad); border-radius: 8px; padding: .5rem .8rem; background: var(--raised); }
.notice { border: 1px solid var(--line); border-left: 6px solid var(--link); border-radius: 8px; padding: .6rem 1rem; background: var(--raised); }
.notice.bad { border-left-color: var(--bad); } .notice.good { border-left-color: var(--good); }
form.decide, form.sign-in { border: 1px solid var(--line); border-radius: 10px; background: var(--raised); padding: 1rem; margin-top: .75rem; max-width: 44rem; }
label { display: block; font-weight: 600; } .hint { color: var(--soft); font-size: .9rem; margin: .1rem 0 .4rem; font-weight: 400; }
input[type="text"], input[type="password"] { width: 100%; font: inherit; padding: .55rem .7rem; border: 1px solid var(--soft); border-radius: 6px; background: var(--paper); color: var(--ink); }
ul.buttons { list-style: none; padding: 0; } .buttons { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1rem; }
button, a.button { font: inherit; font-weight: 600; padding: .55rem 1.25rem; min-height: 2.75rem; border-radius: 6px; border: 1px solid var(--soft); background: var(--paper);
  color: var(--ink); cursor: pointer; text-decoration: none; display: inline-block; }
button.yes { background: light-dark(#0f6b3a, #1b7f49); border-color: transparent; color: #fff; } button.no { border-color: var(--bad); color: var(--bad); }
button[hidden] { display: none; }
form.plain { display: inline; } form.plain button { min-height: 2rem; padding: .2rem .8rem; font-weight: 500; }
ul.steps { margin: .25rem 0; padding-left: 1.2rem; } .changes td, .changes th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; overflow-wrap: anywhere; }
@media print { header nav, form { display: none; } }
`;
