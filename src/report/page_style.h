// How the page looks, and the little program that shows values under the pointer. Without the program nothing is missing
// but those.
//
// Eight styles of lines: colours that people with any colour vision tell apart (after Okabe and Ito, darkened on white), and
// dashes. Heat: from blue over grey to orange. Both themes keep text at a contrast of 4.5 and lines at 3 or more.
#pragma once

namespace switchyard {

inline constexpr const char* kPageStyle = R"css(
:root{--bg:#fff;--fg:#1b1f24;--muted:#5b6470;--line:#dde2e7;--card:#f6f8fa;--bad:#b3261e;--badbg:#fdeceb;
--s0:#0072b2;--s1:#d55e00;--s2:#008a64;--s3:#b3498c;--s4:#3f454c;--s5:#a87400;--s6:#3d8fc4;--s7:#7a4fbf;
--l0:#111;--l1:#2166ac;--l2:#6aaad2;--l3:#c4dff0;--l4:#eeece6;--l5:#fdd0a0;--l6:#ee8f33;--l7:#b34a00;
--b0:#cfe6f5;--b1:#fbdac4;--b2:#c9ecdf;--b3:#f3d3e6;--b4:#dfe2e6;--b5:#f6e3b0;--b6:#d6ddff;--b7:#e4d8f7}
@media screen and (prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e6e9ec;--muted:#a3acb5;--line:#343a41;--card:#1d2125;--bad:#ff9b93;--badbg:#3a1d1b;
--s0:#56b4e9;--s1:#ff8a3d;--s2:#2fc99b;--s3:#e58fc0;--s4:#d0d4d9;--s5:#e8bb3a;--s6:#8ea6ff;--s7:#c3a0ff;
--l0:#fff;--l1:#7cc4ff;--l2:#4a8fc7;--l3:#335672;--l4:#3b4046;--l5:#6e532c;--l6:#c07f30;--l7:#ffb455;
--b0:#0b4466;--b1:#6b3208;--b2:#08513c;--b3:#642a50;--b4:#454b52;--b5:#5a4706;--b6:#2b3a80;--b7:#48307a}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1280px;padding:16px 20px 40px;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{margin:0;font-size:28px;line-height:1.2;overflow-wrap:anywhere}
h2{margin:36px 0 10px;font-size:20px;border-bottom:1px solid var(--line);padding-bottom:4px}
h3{margin:18px 0 8px;font-size:16px;overflow-wrap:anywhere}
summary{cursor:pointer}summary h3{display:inline}
header p{margin:0}.lead{color:var(--muted);overflow-wrap:anywhere}
nav{margin-top:8px}nav a{margin-right:12px;color:var(--s0)}
.unit,.none,.axes,caption{color:var(--muted);font-size:13px;font-weight:400}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:0}
.cards div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 12px}
.cards dt{color:var(--muted);font-size:13px}.cards dd{margin:0;font-size:19px;font-weight:600;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px;margin:4px 0 12px}
caption{text-align:left}
th,td{text-align:left;padding:3px 12px 3px 0;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
thead th{font-size:13px;color:var(--muted);font-weight:600;white-space:normal;vertical-align:bottom}
td.words{white-space:pre-wrap;min-width:240px}
.bad{color:var(--bad);font-weight:600}
.alarms,.notes{margin:0;padding-left:20px}.alarms{background:var(--badbg);border-left:4px solid var(--bad);padding:8px 12px 8px 28px;border-radius:4px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:18px 24px;margin:8px 0 14px}
.chart{margin:0;min-width:0}.chart.wide{grid-column:1/-1}
figcaption{margin-bottom:4px;line-height:1.35}
.chart>svg{display:block;width:100%;height:auto;overflow:visible}
.axis text{font-size:11px;fill:var(--muted)}.axis path{fill:none;stroke:var(--line)}.axis .base,.axis .tick{stroke:var(--muted)}
.series{fill:none;stroke:currentColor;stroke-linejoin:round;stroke-linecap:round}
.series .line,.series .mean{stroke-width:1.8}.series .faint{stroke-width:1;opacity:.3;stroke-dasharray:none!important}
.series circle{fill:currentColor;stroke:none}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}.s7{color:var(--s7)}
.s1 .line,.s1 .mean,.s5 .line,.s5 .mean{stroke-dasharray:7 4}.s2 .line,.s2 .mean,.s6 .line,.s6 .mean{stroke-dasharray:1.5 4}.s3 .line,.s3 .mean,.s7 .line,.s7 .mean{stroke-dasharray:9 4 1.5 4}
.f0{fill:var(--s0)}.f1{fill:var(--s1)}.f2{fill:var(--s2)}.f3{fill:var(--s3)}.f4{fill:var(--s4)}.f5{fill:var(--s5)}.f6{fill:var(--s6)}.f7{fill:var(--s7)}
.l0{fill:var(--l0)}.l1{fill:var(--l1)}.l2{fill:var(--l2)}.l3{fill:var(--l3)}.l4{fill:var(--l4)}.l5{fill:var(--l5)}.l6{fill:var(--l6)}.l7{fill:var(--l7)}
.heat .row{fill:transparent}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;list-style:none;margin:4px 0;padding:0;font-size:13px}.legend li{overflow-wrap:anywhere}
.key{width:28px;height:10px;margin-right:6px;vertical-align:middle}.key.square{width:14px;height:14px;border:1px solid var(--line)}
.bars{display:grid;grid-template-columns:max-content 1fr;gap:4px 12px;align-items:center;font-size:14px;margin-bottom:10px;max-width:900px}
.bars span{overflow-wrap:anywhere;max-width:30vw}.bars .bar{display:block;width:100%;height:22px}
.bar .inside{font-size:11px;fill:var(--bg)}
input[name=axis]{position:absolute;opacity:0}.axes{display:inline;margin-right:6px}
input[name=axis]+label{display:inline-block;padding:2px 12px;margin-right:6px;border:1px solid var(--line);border-radius:14px;cursor:pointer;font-size:14px}
input[name=axis]:checked+label{background:var(--fg);color:var(--bg)}input[name=axis]:focus-visible+label{outline:2px solid var(--s0);outline-offset:2px}
#axis-steps:checked~.over-flops,#axis-steps:checked~.over-seconds,#axis-flops:checked~.over-steps,#axis-flops:checked~.over-seconds,
#axis-seconds:checked~.over-steps,#axis-seconds:checked~.over-flops{display:none}
.routed{margin:10px 0}
.text{white-space:pre-wrap;overflow-wrap:anywhere;line-height:2;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:8px 14px;margin:8px 0}
.token{border-radius:3px;padding:1px 0}.token sub{font-size:9px;color:var(--muted);vertical-align:-3px;margin:0 1px;line-height:1;user-select:none}
.token.dropped{text-decoration:line-through}.end{color:var(--muted)}
.b0{background:var(--b0)}.b1{background:var(--b1)}.b2{background:var(--b2)}.b3{background:var(--b3)}.b4{background:var(--b4)}.b5{background:var(--b5)}.b6{background:var(--b6)}.b7{background:var(--b7)}
#hover{position:absolute;pointer-events:none;background:var(--bg);color:var(--fg);border:1px solid var(--muted);border-radius:6px;padding:4px 8px;font-size:12px;
white-space:pre;font-variant-numeric:tabular-nums;z-index:9;box-shadow:0 2px 8px #0004}
@media (max-width:560px){body{padding:12px 12px 30px}h1{font-size:22px}.cards{grid-template-columns:1fr 1fr}.bars{grid-template-columns:1fr}.bars span{max-width:none}}
@media print{:root{--bg:#fff;--fg:#000;--muted:#444;--line:#ccc;--card:#fff}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{max-width:none;padding:0;font-size:11px}nav,.axes,input[name=axis]+label{display:none}
#curves .charts{display:grid!important}.charts{grid-template-columns:repeat(3,1fr)}.chart,tr,.cards div{break-inside:avoid}h2,h3{break-after:avoid}.scroll{overflow:visible}
table{font-size:9px}thead th{font-size:8px}th,td{padding-right:8px}td.words{white-space:normal}}
)css";

// Shows the values of all lines at the step under the pointer, and unfolds everything for paper.
inline constexpr const char* kPageScript = R"js(
"use strict";
(() => {
  const box = document.getElementById("hover");
  const number = v => Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(4)));
  const value = (scale, at) => {
    const [low, high, begin, end, log] = scale.split(" ").map(Number), share = (at - begin) / (end - begin);
    return log ? low * Math.pow(high / low, share) : low + share * (high - low);
  };
  const points = path => path.getAttribute("d").split(/[ML]/).slice(1).map(p => p.split(" ").map(Number));
  for (const svg of document.querySelectorAll("svg[data-x]")) {
    let lines = null;
    svg.addEventListener("pointermove", event => {
      lines = lines || [...svg.querySelectorAll(".series")].map(g => [g.dataset.name, points(g.querySelector(".line"))]);
      const frame = svg.getBoundingClientRect(), x = (event.clientX - frame.left) * svg.viewBox.baseVal.width / frame.width;
      const rows = [];
      let nearest = null;
      for (const [name, line] of lines) {
        if (!line.length) continue;
        const point = line.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
        if (nearest === null || Math.abs(point[0] - x) < Math.abs(nearest - x)) nearest = point[0];
        rows.push(name + ": " + number(value(svg.dataset.y, point[1])) + svg.dataset.unit);
      }
      if (nearest === null) return;
      box.textContent = [svg.dataset.label + " " + number(value(svg.dataset.x, nearest)), ...rows].join("\n");
      box.hidden = false;
      const left = Math.min(event.pageX + 14, document.documentElement.clientWidth - box.offsetWidth - 8);
      box.style.left = Math.max(4, left) + "px";
      box.style.top = event.pageY + 16 + "px";
    });
    svg.addEventListener("pointerleave", () => { box.hidden = true; });
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => { d.open = true; }));
})();
)js";

}  // namespace switchyard
