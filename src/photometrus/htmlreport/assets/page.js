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

// ------------------------------------------------------------------ values and their stretches

/** The value (ADU) that a grey of a preview stands for. */
function value(greys, grey) {
  return greys.level + greys.noise * Math.sinh(greys.low + greys.step * (grey - greys.first));
}

/** The grey below which lie so many of the pixels that were seen. */
function quantile(counts, first, share) {
  let sum = 0;
  const all = counts.reduce((total, n, grey) => total + (grey < first ? 0 : n), 0);
  for (let grey = first; grey < 256; grey += 1) {
    sum += counts[grey];
    if (sum >= share * all) return grey;
  }
  return 255;
}

/** For each stretch: what makes a brightness from 0 to 1 of a value. */
const STRETCHES = {
  zscale: (greys) => (v) => (v - greys.black) / (greys.white - greys.black),
  asinh: (greys, least, most) => {
    const soft = (v) => Math.asinh((v - least) / (3 * greys.noise));
    return (v) => soft(v) / soft(most);
  },
  log: (greys, least, most) => (v) => {
    const share = Math.max(0, (v - least) / (most - least));
    return Math.log10(1 + 1000 * share) / Math.log10(1001);
  },
  wide: (greys, least, most, counts) => {
    const [low, high] = [0.0025, 0.9975].map((share) => value(greys, quantile(counts, greys.first, share)));
    return (v) => (v - low) / Math.max(high - low, 1e-9 * greys.noise);
  },
};

/** The brightness (0 to 255) of each grey under a stretch. */
function brightness(name, greys, counts) {
  const least = greys.level - 2.5 * greys.noise;
  const most = Math.max(value(greys, quantile(counts, greys.first, 0.9995)), least + 10 * greys.noise);
  const stretch = STRETCHES[name](greys, least, most, counts);
  return Uint8ClampedArray.from({ length: 256 }, (_, grey) => 255 * stretch(value(greys, grey)));
}

/** Three digits, as people write them. */
function rounded(v) {
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.max(Math.abs(v), 1e-3))));
  return v.toFixed(Math.min(digits, 5)).replace("-", "−");
}

// ------------------------------------------------------------------ a preview that can be zoomed

const RULES = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200];
const narrow = matchMedia("(max-width: 760px)");

class Viewer {
  constructor(view) {
    this.view = view;
    this.chip = view.closest(".chip");
    this.layer = view.querySelector(".layer");
    this.marks = view.querySelector("svg");
    this.image = view.querySelector("img");
    [this.width, this.height] = ["width", "height"].map((side) => Number(this.image.getAttribute(side)));
    this.readout = this.chip.querySelector(".readout");
    this.rule = view.querySelector(".rule");
    Object.assign(this, JSON.parse(view.dataset.told));
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
    view.addEventListener("click", () => { if (narrow.matches && !this.isLarge) this.enlarge(); });
    new ResizeObserver(() => this.show()).observe(view);
    this.image.decode().then(() => this.develop(), () => {});
  }

  /** The picture's greys on a canvas, where they can be stretched and read. */
  develop() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.width, this.height];
    this.ink = canvas.getContext("2d", { willReadFrequently: true });
    this.ink.drawImage(this.image, 0, 0);
    const read = this.ink.getImageData(0, 0, this.width, this.height).data;
    this.seen = Uint8Array.from({ length: this.width * this.height }, (_, k) => read[4 * k]);
    this.counts = new Array(256).fill(0);
    for (const grey of this.seen) this.counts[grey] += 1;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", this.image.alt);
    this.image.hidden = true;
    this.image.after(canvas);
    this.stretch(stretch.value);
  }

  stretch(name) {
    if (!this.seen) return;
    const bright = brightness(name, this.greys, this.counts);
    const pixels = new ImageData(this.width, this.height);
    const paint = new Uint32Array(pixels.data.buffer);
    const colours = Uint32Array.from(bright, (b) => 0xff000000 | (b << 16) | (b << 8) | b);
    this.seen.forEach((grey, k) => { paint[k] = colours[grey]; });
    this.ink.putImageData(pixels, 0, 0);
  }

  get isLarge() {
    const button = this.chip.querySelector("[data-do=large]");
    return !button || button.getAttribute("aria-pressed") === "true";
  }

  enlarge() {
    const button = this.chip.querySelector("[data-do=large]");
    button.setAttribute("aria-pressed", this.chip.classList.toggle("large"));
    this.all();
    this.chip.scrollIntoView({ block: "nearest" });
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
    this.view.classList.toggle("close", this.unit < 0.25);
    this.measure(width);
  }

  /** A rule of a round length, about a fifth of the view. */
  measure(width) {
    const arcsec = (Math.hypot(this.plane.xi[1], this.plane.eta[1]) / DEG) * 3600 * this.unit;
    const length = RULES.findLast((one) => one < (arcsec * width) / 5);
    if (!length) return;
    this.rule.style.width = `${length / arcsec}px`;
    this.rule.textContent = length < 60 ? `${length}″` : `${length / 60}′`;
  }

  /** Pixels of the preview along a CSS pixel. */
  get unit() {
    return this.width / (this.view.clientWidth * this.scale);
  }

  tell(x, y) {
    const place = [(x - this.left) * this.unit, (y - this.top) * this.unit];
    const told = [words(position(this.plane, ...place))];
    // As FITS and DS9 count: the middle of the first pixel is 1, rows from below.
    const pixel = [place[0] * this.side + 0.5, (this.height - place[1]) * this.side + 0.5];
    told.push(`x ${pixel[0].toFixed(1)} y ${pixel[1].toFixed(1)}`);
    const [column, row] = place.map(Math.floor);
    const inside = column >= 0 && row >= 0 && column < this.width && row < this.height;
    const grey = inside && this.seen ? this.seen[row * this.width + column] : 0;
    told.push(grey < this.greys.first / 2 ? "no value" : `≈ ${rounded(value(this.greys, grey))} ADU`);
    this.readout.textContent = told.join(" · ");
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
      large: () => this.enlarge(),
    })[button.dataset.do]();
  }
}

const stretch = document.getElementById("stretch");
const viewers = [...document.querySelectorAll(".view")].map((view) => new Viewer(view));

// ------------------------------------------------------------------ all previews

if (stretch) {
  stretch.addEventListener("change", () => viewers.forEach((viewer) => viewer.stretch(stretch.value)));
}
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
    head.querySelector("button")?.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(table, column, up);
    });
  });
}

// ------------------------------------------------------------------ tables that can be filtered

const filters = [...document.querySelectorAll("[data-filter]")];
function filter() {
  const rows = [...document.querySelectorAll("table.filtered tbody tr")];
  for (const row of rows) {
    row.hidden = filters.some((one) => one.value && row.dataset[one.dataset.filter] !== one.value);
  }
  const shown = rows.filter((row) => !row.hidden).length;
  document.querySelector(".count").textContent = `${shown} of ${rows.length} frames`;
}
for (const one of filters) one.addEventListener("change", filter);
if (filters.length) filter();

// ------------------------------------------------------------------ texts that can be copied

/** The clipboard, or what browsers had before it: it is not there for every kind of page. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(text);
    return document.execCommand("copy");
  }
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const done = await copy(document.getElementById(button.dataset.copy));
    button.textContent = done ? "Copied" : "Press Ctrl-C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// ------------------------------------------------------------------ paper

addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});

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
