"use strict";

// ------------------------------------------------------------------ the sky

const DEG = Math.PI / 180;
const MOST = 24; // times as large as the whole preview
const STEP = 1.4;

/** Right ascension and declination (degrees) of a pixel of the preview, from its upper left. */
function position(plane, x, y) {
  const xi = plane.xi[0] + plane.xi[1] * x + plane.xi[2] * y;
  const eta = plane.eta[0] + plane.eta[1] * x + plane.eta[2] * y;
  const sin = Math.sin(plane.dec * DEG), cos = Math.cos(plane.dec * DEG);
  const down = cos - eta * sin;
  const ra = plane.ra + Math.atan2(xi, down) / DEG;
  return [(ra + 360) % 360, Math.atan2(sin + eta * cos, Math.hypot(xi, down)) / DEG];
}

/** 13.5 as 13:30:00.0, rounded once so that no 60 appears. */
function sexagesimal(value, digits) {
  const scale = 10 ** digits;
  const all = Math.round(Math.abs(value) * 3600 * scale);
  const two = (number) => String(number).padStart(2, "0");
  const seconds = ((all % (60 * scale)) / scale).toFixed(digits).padStart(3 + digits, "0");
  return `${two(Math.floor(all / 3600 / scale))}:${two(Math.floor(all / 60 / scale) % 60)}:${seconds}`;
}

function words([ra, dec]) {
  const hours = sexagesimal(ra / 15, 2).replace(/^24:/, "00:");
  const degrees = `${dec < 0 ? "−" : "+"}${sexagesimal(dec, 1)}`;
  return `${hours} ${degrees} · ${ra.toFixed(5)} ${dec < 0 ? "−" : "+"}${Math.abs(dec).toFixed(5)}`;
}

// ------------------------------------------------------------------ a preview that can be zoomed

class Viewer {
  constructor(view) {
    this.view = view;
    this.chip = view.closest(".chip");
    this.layer = view.querySelector(".layer");
    this.marks = view.querySelector("svg");
    this.width = Number(view.querySelector("img").getAttribute("width"));
    this.readout = this.chip.querySelector(".readout");
    this.plane = JSON.parse(view.dataset.plane);
    this.scale = 1;
    this.left = this.top = 0;
    this.fingers = new Map();
    view.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    view.addEventListener("pointerdown", (event) => this.press(event));
    view.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      view.addEventListener(end, (event) => this.release(event));
    }
    view.addEventListener("pointerleave", () => { this.readout.textContent = ""; });
    view.addEventListener("keydown", (event) => this.key(event));
    view.addEventListener("dblclick", (event) => this.zoom(STEP * STEP, ...this.at(event)));
    for (const button of this.chip.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => this.press_button(button));
    }
    new ResizeObserver(() => this.show()).observe(view);
  }

  /** Where an event is in the view, CSS pixels. */
  at(event) {
    const box = this.view.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  get middle() {
    return [this.view.clientWidth / 2, this.view.clientHeight / 2];
  }

  /** Larger by a factor, the point under (x, y) stays. */
  zoom(factor, x, y) {
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.show();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.show();
  }

  all() {
    this.scale = 1;
    this.show();
  }

  show() {
    const { clientWidth: width, clientHeight: height } = this.view;
    this.left = Math.min(0, Math.max(width * (1 - this.scale), this.left));
    this.top = Math.min(0, Math.max(height * (1 - this.scale), this.top));
    this.layer.style.transform = `translate(${this.left}px, ${this.top}px) scale(${this.scale})`;
    this.marks.style.setProperty("--unit", this.unit);
    this.view.classList.toggle("zoomed", this.scale > 1);
  }

  /** Pixels of the preview along a CSS pixel. */
  get unit() {
    return this.width / (this.view.clientWidth * this.scale);
  }

  tell(x, y) {
    const place = [(x - this.left) * this.unit, (y - this.top) * this.unit];
    this.readout.textContent = words(position(this.plane, ...place));
  }

  /** The wheel turns the page until the preview was clicked, so that nobody is caught in it. */
  wheel(event) {
    if (document.activeElement !== this.view && !event.ctrlKey) return;
    event.preventDefault();
    const turned = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
    this.zoom(Math.exp(-Math.max(-300, Math.min(300, turned)) / 400), ...this.at(event));
    this.tell(...this.at(event));
  }

  press(event) {
    this.fingers.set(event.pointerId, this.at(event));
    if (this.scale > 1 || this.fingers.size > 1) this.view.setPointerCapture(event.pointerId);
    this.view.classList.add("held");
  }

  move(event) {
    const now = this.at(event);
    const before = this.fingers.get(event.pointerId);
    if (before && this.fingers.size === 1) this.pan(now[0] - before[0], now[1] - before[1]);
    if (before && this.fingers.size === 2) {
      const [, other] = [...this.fingers].find(([id]) => id !== event.pointerId);
      const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
      this.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      this.zoom(apart(now) / Math.max(1, apart(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    if (before) this.fingers.set(event.pointerId, now);
    this.tell(...now);
  }

  release(event) {
    this.fingers.delete(event.pointerId);
    if (!this.fingers.size) this.view.classList.remove("held");
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const reach = 60;
    const does = {
      "+": () => this.zoom(STEP, ...this.middle),
      "=": () => this.zoom(STEP, ...this.middle),
      "-": () => this.zoom(1 / STEP, ...this.middle),
      "0": () => this.all(),
      ArrowLeft: () => this.pan(reach, 0),
      ArrowRight: () => this.pan(-reach, 0),
      ArrowUp: () => this.pan(0, reach),
      ArrowDown: () => this.pan(0, -reach),
    }[event.key];
    if (!does || (event.key.startsWith("Arrow") && this.scale === 1)) return;
    event.preventDefault();
    does();
    this.tell(...this.middle);
  }

  press_button(button) {
    ({
      in: () => this.zoom(STEP, ...this.middle),
      out: () => this.zoom(1 / STEP, ...this.middle),
      all: () => this.all(),
      large: () => button.setAttribute("aria-pressed", this.chip.classList.toggle("large")),
    })[button.dataset.do]();
  }
}

for (const view of document.querySelectorAll(".view")) new Viewer(view);

// ------------------------------------------------------------------ all previews

const invert = document.getElementById("invert");
if (invert) {
  invert.addEventListener("click", () => {
    invert.setAttribute("aria-pressed", document.body.classList.toggle("inverted"));
  });
}
for (const box of document.querySelectorAll("[data-marks]")) {
  const show = () => {
    for (const group of document.querySelectorAll(`svg g.${box.dataset.marks}`)) {
      group.classList.toggle("shown", box.checked);
    }
  };
  box.addEventListener("change", show);
  show();
}

// ------------------------------------------------------------------ tables that can be sorted

/** Numbers by their value, words as words; what is unknown comes last either way. */
function sort(table, column, up) {
  const value = (row) => {
    const cell = row.cells[column];
    return "v" in cell.dataset ? cell.dataset.v : cell.textContent.trim();
  };
  const numeric = table.tHead.rows[0].cells[column].classList.contains("num");
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const less = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
    return up ? less : -less;
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(table, column, up);
    });
  });
}

// ------------------------------------------------------------------ figures

const dialog = document.querySelector("dialog");
for (const thumb of document.querySelectorAll(".thumb")) {
  thumb.addEventListener("click", () => {
    const [from, to] = [thumb.querySelector("img"), dialog.querySelector("img")];
    to.src = from.src;
    to.alt = from.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
