"use strict";

const EVERY_MS = 2000;
const live = document.querySelector("[data-live]");
const table = document.querySelector("table.sortable");
const find = document.getElementById("find");
let sorted = null; // {column, up}

// ------------------------------------------------------------------ sorting and finding

/** Numbers by their value, words as words; what is unknown comes last either way. */
function sort() {
  if (!sorted) return;
  const { column, up } = sorted;
  const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
  const numeric = table.tHead.rows[0].cells[column].classList.contains("num");
  const rows = [...live.rows].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === "" || b === "") return (a === "") - (b === "");
    const less = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
    return up ? less : -less;
  });
  live.append(...rows);
}

function filter() {
  const words = find.value.toLowerCase().split(/\s+/);
  for (const row of live.rows) {
    const text = row.textContent.toLowerCase();
    row.classList.toggle("filtered", !words.every((word) => text.includes(word)));
  }
  const shown = [...live.rows].filter((row) => !row.classList.contains("filtered")).length;
  const said = `${shown} of ${live.rows.length} observations`;
  const count = document.querySelector(".count");
  if (count.textContent !== said) count.textContent = said; // said aloud only when it changes
  document.querySelector(".empty").hidden = live.rows.length > 0;
}

if (table) {
  [...table.tHead.rows[0].cells].forEach((head, column, heads) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sorted = { column, up };
      sort();
    });
  });
  find.addEventListener("input", filter);
  filter();
}

// ------------------------------------------------------------------ following the server

let mark = "";

/** What the server has now; whoever reads keeps focus, place and order. */
async function follow() {
  if (document.hidden) return;
  const answer = await fetch(live.dataset.live, { headers: mark ? { "If-None-Match": mark } : {}, cache: "no-store" });
  if (answer.status === 304) return;
  if (!answer.ok) throw new Error(answer.statusText);
  mark = answer.headers.get("ETag") ?? "";
  const focus = document.activeElement?.getAttribute("href") ?? document.activeElement?.getAttribute("aria-label");
  const places = [...live.querySelectorAll(".scroll")].map((box) => [box.scrollTop, box.scrollTop + box.clientHeight >= box.scrollHeight - 4]);
  live.innerHTML = await answer.text(); // the server has escaped all that is not ours
  live.querySelectorAll(".scroll").forEach((box, k) => {
    const [top, atEnd] = places[k] ?? [0, false];
    box.scrollTop = atEnd && box.getAttribute("aria-label") === "Log" ? box.scrollHeight : top;
  });
  if (table) {
    sort();
    filter();
  }
  if (focus && document.activeElement === document.body) {
    live.querySelector(`[href="${CSS.escape(focus)}"], [aria-label="${CSS.escape(focus)}"]`)?.focus();
  }
}

async function forever() {
  for (;;) {
    try {
      await follow();
      document.querySelector(".gone").hidden = true;
    } catch {
      document.querySelector(".gone").hidden = false;
    }
    await new Promise((done) => { setTimeout(done, EVERY_MS); });
  }
}
for (const box of document.querySelectorAll("[aria-label=Log]")) box.scrollTop = box.scrollHeight;
forever();
