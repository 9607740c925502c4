"use strict";

// Tables: a header sorts by its column; what is missing stays last, and rows that are equal keep their order.
const byName = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function sortBy(header) {
  const table = header.closest("table");
  const number = header.dataset.kind === "number";
  const now = header.getAttribute("aria-sort");
  const next = now ? (now === "descending" ? "ascending" : "descending") : number ? "descending" : "ascending";
  const sign = next === "ascending" ? 1 : -1;
  const value = (row) => row.cells[header.cellIndex].dataset.value;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows).sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * (number ? Number(a) - Number(b) : byName.compare(a, b));
  });
  body.append(...rows);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", next);
  const name = header.querySelector("button").firstChild.textContent.replaceAll("\u00ad", "");
  table.closest("section").querySelector("[data-sorted]").textContent = `Sorted by ${name}, ${next}`;
}

for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

// Plots: what a point stands for shows when it is pointed at or has the focus; the arrow keys go from point to point.
const tip = document.querySelector(".tip");

function showTip(point) {
  tip.textContent = point.dataset.tip;
  tip.hidden = false;
  const place = point.getBoundingClientRect();
  const width = document.documentElement.clientWidth;
  const left = place.left + place.width / 2 - tip.offsetWidth / 2;
  const above = place.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(8, Math.min(left, width - tip.offsetWidth - 8))}px`;
  tip.style.top = `${above > 0 ? above : place.bottom + 8}px`;
}

function hideTip() {
  tip.hidden = true;
}

for (const plot of document.querySelectorAll("[data-points]")) {
  const points = Array.from(plot.querySelectorAll("[data-tip]"));
  points.forEach((point, index) => {
    point.setAttribute("tabindex", index ? "-1" : "0");
    point.addEventListener("pointerenter", () => showTip(point));
    point.addEventListener("pointerleave", hideTip);
    point.addEventListener("focus", () => showTip(point));
    point.addEventListener("blur", hideTip);
  });
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const from = points.indexOf(document.activeElement);
    if (event.key === "Escape") hideTip();
    if (!step || from < 0) return;
    event.preventDefault();
    const next = points[(from + step + points.length) % points.length];
    points[from].setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
}
function followTip() {
  const point = document.activeElement.closest("[data-tip]");
  if (point) showTip(point);
  else hideTip();
}

addEventListener("scroll", followTip, { capture: true, passive: true });

// Paper shows everything.
const folded = () => document.querySelectorAll("details:not([open])");
let opened = [];
addEventListener("beforeprint", () => {
  opened = Array.from(folded());
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
