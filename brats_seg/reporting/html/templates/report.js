"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);

  // Light, dark, or as the system is; kept where the browser lets a page keep something.
  const root = document.documentElement, theme = one("#theme"), order = ["system", "light", "dark"];
  let chosen = "system";
  try { chosen = localStorage.getItem("brats-seg-theme") || "system"; } catch { /* a page from disk may not */ }
  const showTheme = () => {
    if (chosen === "system") delete root.dataset.theme; else root.dataset.theme = chosen;
    theme.textContent = "theme: " + chosen;
  };
  theme.addEventListener("click", () => {
    chosen = order[(order.indexOf(chosen) + 1) % order.length];
    try { localStorage.setItem("brats-seg-theme", chosen); } catch { /* see above */ }
    showTheme();
  });
  showTheme();

  // The same case in every chart, its name beside the pointer, and the way to its row or picture.
  const names = JSON.parse(one("#names").textContent), tip = one("#tip");
  let marked = [];
  const unmark = () => { marked.forEach((mark) => mark.classList.remove("on")); marked = []; tip.hidden = true; };
  document.addEventListener("pointerover", (event) => {
    const dot = event.target.closest(".d");
    unmark();
    if (!dot) return;
    marked = all(`[data-c="${dot.dataset.c}"]`);
    const row = one(`#case-${dot.dataset.c}`);
    if (row) marked.push(row);
    marked.forEach((mark) => mark.classList.add("on"));
    tip.textContent = names[dot.dataset.c];
    tip.hidden = false;
    const box = dot.getBoundingClientRect(), width = tip.offsetWidth;
    tip.style.left = Math.max(4, Math.min(box.right + 8, innerWidth - width - 8)) + "px";
    tip.style.top = Math.max(4, box.top - tip.offsetHeight - 6) + "px";
  });
  document.addEventListener("click", (event) => {
    const dot = event.target.closest(".d");
    if (!dot) return;
    const place = one(`#worst-${dot.dataset.c}`) || one(`#case-${dot.dataset.c}`);
    if (place) place.scrollIntoView({ block: "center" });
  });
  addEventListener("scroll", unmark, { passive: true });

  // Pictures: another region, or nearer.
  const zoom = (picture, isNear) => {
    if (picture.classList.contains("zoom") === isNear) return;
    picture.classList.toggle("zoom", isNear);
    all("svg[data-z]", picture).forEach((panel) => {
      const other = panel.dataset.z;
      panel.dataset.z = panel.getAttribute("viewBox");
      panel.setAttribute("viewBox", other);
    });
  };
  const press = (button, isPressed) => button.setAttribute("aria-pressed", isPressed);
  const isPressed = (button) => button.getAttribute("aria-pressed") === "true";
  all(".card").forEach((card) => {
    const pictures = all(".pic", card);
    all("[data-region]", card).forEach((button) => button.addEventListener("click", () => {
      all("[data-region]", card).forEach((other) => press(other, other === button));
      pictures.forEach((picture) => { picture.dataset.r = button.dataset.region; });
    }));
    all("[data-zoom]", card).forEach((button) => button.addEventListener("click", () => {
      press(button, !isPressed(button));
      pictures.forEach((picture) => zoom(picture, isPressed(button)));
    }));
  });
  all("[data-all]").forEach((button) => button.addEventListener("click", () => {
    const isOn = !isPressed(button), what = button.dataset.all;
    press(button, isOn);
    if (what === "zoom") {
      all(".pic").forEach((picture) => zoom(picture, isOn));
      all("[data-zoom]").forEach((other) => press(other, isOn));
    } else root.style.setProperty("--" + what, isOn ? "inline" : "none");
  }));

  // The table: sorted by any column, undefined values last; filtered by words and bounds.
  const table = one("#table"), body = table.tBodies[0], rows = [...body.rows];
  const number = (text) => {
    const words = text.replace("\u2212", "-").replace("\u221e", "Infinity").trim();
    return words === "" || words === "\u2013" ? NaN : Number(words);
  };
  const heads = all("tr:last-child th", table.tHead);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const isUp = head.getAttribute("aria-sort") !== "ascending", sign = isUp ? 1 : -1;
    heads.forEach((other) => other.setAttribute("aria-sort", other === head ? (isUp ? "ascending" : "descending") : "none"));
    const texts = new Map(rows.map((row) => [row, row.cells[column].textContent]));
    rows.sort((first, second) => {
      if (!column) return sign * texts.get(first).localeCompare(texts.get(second), "en", { numeric: true });
      const a = number(texts.get(first)), b = number(texts.get(second));
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return a === b ? 0 : sign * (a < b ? -1 : 1);
    });
    body.append(...rows);
  }));
  const columns = new Map();
  heads.forEach((head, column) => {
    const key = (head.dataset.k || "").toLowerCase();
    if (key) columns.set(key, [...(columns.get(key) || []), column]);
  });
  const fits = (row, term) => {
    const bound = /^(.+?)([<>])(\d*\.?\d+)$/.exec(term), own = bound && columns.get(bound[1]);
    if (!own) return row.cells[0].textContent.toLowerCase().includes(term);
    const values = own.map((column) => number(row.cells[column].textContent));
    return values.some((value) => (bound[2] === "<" ? value < Number(bound[3]) : value > Number(bound[3])));
  };
  const filter = one("#filter"), count = one("#count"), total = count.textContent;
  filter.addEventListener("input", () => {
    const terms = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let num = 0;
    rows.forEach((row) => { row.hidden = !terms.every((term) => fits(row, term)); num += !row.hidden; });
    count.textContent = terms.length ? `${num} of ${total}` : total;
  });
  document.body.dataset.ready = "yes";
})();
