// What a screen reader and weak eyes need of the page, as it is now: data-problems of the root element, "" when nothing is wrong.
const problems = [], all = (what) => [...document.querySelectorAll(what)], told = (e) => `${e.tagName.toLowerCase()} ${e.textContent.trim().replace(/\s+/g, " ").slice(0, 30)}`;
const must = (what, ok, why) => all(what).forEach((e) => ok(e) || problems.push(`${told(e)}: ${why}`));
const named = (e) => e.getAttribute("aria-label") || e.closest("label") || e.textContent.trim();
must("button, input, select", named, "no name");
must("table", (e) => e.querySelector("caption"), "no caption");
must("th", (e) => e.getAttribute("scope"), "no scope");
must("main > section, body > section, nav", (e) => e.getAttribute("aria-label") || document.getElementById(e.getAttribute("aria-labelledby")), "no label");
must("svg", (e) => e.getAttribute("aria-label") && e.getAttribute("role") === "group", "no label, or no role");
must("svg .node, svg .dot", (e) => e.getAttribute("aria-label") && /^(button|img)$/.test(e.getAttribute("role")), "no label, or no role");
must("#before svg, #after svg", (e) => e.querySelectorAll('[tabindex="0"]').length === 1, "not one stop for the Tab key");
must("[tabindex]", (e) => +e.getAttribute("tabindex") <= 0, "an order of its own");
must("pre", (e) => e.getAttribute("tabindex") === "0" || e.scrollWidth <= e.clientWidth, "cannot be scrolled by keys");
must("[id]", (e) => all(`[id="${e.id}"]`).length === 1, "its id is another's too");
all("h1, h2, h3").reduce((above, e) => (+e.tagName[1] > above + 1 && problems.push(`${told(e)}: a level is left out above it`), +e.tagName[1]), 0);
if (all("h1").length !== 1 || !document.documentElement.lang) problems.push("not one h1, or no language");

// Contrast as WCAG 2.1 has it: 4.5 for text.
const light = (c) => c.slice(0, 3).map((v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
const color = (s) => ((m) => [m[0], m[1], m[2], m.length > 3 ? m[3] : 1])(s.match(/[\d.]+/g).map(Number));
const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
function behind(e) {
  const layers = [];
  for (; e && e.nodeType === 1; e = e.parentElement) {
    layers.push(color(getComputedStyle(e).backgroundColor));
    if (layers[layers.length - 1][3] === 1) break;
  }
  return layers.reverse().reduce((under, c) => over(c, under), [255, 255, 255]);
}
function readable(e, text, ground) {
  const [a, b] = [light(text), light(ground)].sort((x, y) => y - x), contrast = (a + 0.05) / (b + 0.05);
  if (contrast < 4.5) problems.push(`${told(e)}: contrast ${contrast.toFixed(2)}`);
}
for (const t of all("svg .node text"))
  readable(t, color(getComputedStyle(t).fill), over(color(getComputedStyle(t.parentNode.querySelector("rect")).fill), behind(t.closest("svg").parentElement)));
for (const e of all("p, span, td, th, caption, summary, li, a, h1, h2, h3, label, button, pre, del, ins, code"))
  if (e.textContent.trim() && e.getClientRects().length) readable(e, color(getComputedStyle(e).color), behind(e));
document.documentElement.dataset.problems = [...new Set(problems)].slice(0, 5).join("; ");
document.documentElement.dataset.dark = matchMedia("(prefers-color-scheme: dark)").matches;
