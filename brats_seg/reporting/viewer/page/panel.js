// Everything on the page that is no canvas. Texts come from files (case names, errors): they are set as text, never as HTML.
"use strict";

const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
    else if (name === "text") one.textContent = value;
    else if (value !== undefined) one.setAttribute(name, value);
  }
  one.append(...children);
  return one;
}

// A row of buttons of which one is pressed. `options` is [[value, title, hint]].
function choice(box, options, current, choose) {
  box.replaceChildren(...options.map(([value, title, hint]) =>
    element("button", { text: title, title: hint, "data-value": value, "aria-pressed": value === current, onclick: () => choose(value) })));
}

function press(box, current) {
  for (const button of box.children) button.setAttribute("aria-pressed", button.dataset.value === current);
}

const milliliters = (value) => (value === null ? "" : value === 0 ? "0" : value < 0.1 ? value.toFixed(3) : value < 10 ? value.toFixed(2) : value.toFixed(1));
const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

// From orange (0.4 and less) over pale yellow to blue (1): told apart whatever the colour vision.
const SCORE_COLORS = [[238, 140, 76], [242, 222, 150], [128, 196, 240]];

function scoreColor(value) {
  const place = Math.min(1, Math.max(0, (value - 0.4) / 0.6)) * 2;
  const stop = Math.min(1, Math.floor(place));
  return `rgb(${SCORE_COLORS[stop].map((one, part) => Math.round(one + (SCORE_COLORS[stop + 1][part] - one) * (place - stop)))})`;
}

function scoreCell(value, digits = 3) {
  if (value === null || value === undefined) return element("td", { text: "–", class: "quiet" });
  const mark = element("span", { class: "score", text: value.toFixed(digits), title: score(value) });
  mark.style.background = scoreColor(value);
  return element("td", {}, mark);
}

const Panel = {
  numbers({ numbers, label_maps: maps }) {
    const hasBoth = maps.length === 2;
    const head = element("tr", {}, element("th", { text: "Region" }));
    if (maps.includes("reference")) head.append(element("th", { text: "Ref. ml" }));
    if (maps.includes("prediction")) head.append(element("th", { text: "Pred. ml" }));
    if (hasBoth) head.append(element("th", { text: "Dice" }));
    byId("numbers").replaceChildren(...(numbers.length ? [head] : []), ...numbers.map((one) => {
      const row = element("tr", { class: one.is_region ? "region" : "" }, element("td", { text: one.name }));
      for (const which of maps) row.append(element("td", { text: milliliters(one[`${which}_ml`]) }));
      if (hasBoth) row.append(one.is_region ? scoreCell(one.dice) : element("td", { text: score(one.dice) }));
      return row;
    }));
    byId("numbers-note").textContent = !numbers.length ? "No label maps were given." :
      hasBoth ? "Dice: plain, no protocol; – where both are empty." : `No ${maps.includes("reference") ? "prediction" : "reference"}: volumes only.`;
  },

  overlays(description, settings, change) {
    const box = byId("overlays");
    box.replaceChildren();
    byId("legend").replaceChildren();
    if (!description.label_maps.length) {
      box.append(element("span", { class: "quiet", text: "none" }));
      return;
    }
    for (const which of description.label_maps) {
      const group = element("div", { class: "choice", role: "group", "aria-label": which, id: `style-${which}` });
      const options = [["fill", "Fill"], ["outline", "Outline"], ["off", "Off"]];
      choice(group, options, settings.styles[which], (style) => change({ styles: { ...settings.styles, [which]: style }, errors: null }));
      box.append(element("div", { class: "row" }, element("span", { text: which[0].toUpperCase() + which.slice(1) }), group));
    }
    if (description.label_maps.length === 2) {
      const group = element("div", { class: "choice", role: "group", "aria-label": "Errors", id: "errors" });
      const options = [["", "Off", "E"], ...Object.keys(description.regions).map((name) => [name, name, `Missed and false voxels of ${name} (E)`])];
      choice(group, options, settings.errors ?? "", (name) => change({ errors: name || null }));
      box.append(element("div", { class: "row" }, element("span", { text: "Errors" }), group));
    }
    const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: settings.opacity, "aria-label": "Opacity", id: "opacity" });
    slider.addEventListener("input", () => change({ opacity: Number(slider.value) }));
    box.append(element("div", { class: "row" }, element("span", { text: "Opacity" }), slider));
    Panel.legend(description, settings, change);
  },

  legend(description, settings, change) {
    const toggle = (value) => {
      const hidden = new Set(settings.hidden);
      if (!hidden.delete(value)) hidden.add(value);
      change({ hidden });
    };
    const entries = settings.errors ? ERROR_COLORS.map((one) => ({ ...one, title: one.value === Labels.MISSED ?
      `missed ${settings.errors} (reference only)` : `false ${settings.errors} (prediction only)` })) : description.labels;
    byId("legend").replaceChildren(...entries.map((one) => {
      const key = element("i");
      key.style.setProperty("--color", `rgb(${one.color})`);
      const more = settings.errors ? { disabled: "" } : { "aria-pressed": !settings.hidden.has(one.value), onclick: () => toggle(one.value), title: "Show or hide" };
      return element("button", { ...more, "data-value": one.value }, key, element("span", { text: one.title }));
    }));
  },

  window(modality, [low, high], set) {
    const [least, most] = modality.range;
    const span = Math.max(most - least, 1e-6);
    const digits = span < 20 ? 2 : 0;
    const line = (name, key, value, smallest, largest, apply) => {
      const slider = element("input", { type: "range", min: smallest, max: largest, step: span / 500, value, "aria-label": name, id: key });
      const shown = element("output", { text: value.toFixed(digits) });
      slider.addEventListener("input", () => { shown.textContent = Number(slider.value).toFixed(digits); apply(Number(slider.value)); });
      return element("div", { class: "row" }, element("span", { text: name }), slider, shown);
    };
    const now = { width: high - low, level: (high + low) / 2 };
    const apply = (more) => { Object.assign(now, more); set(now.level - now.width / 2, now.level + now.width / 2); };
    byId("window").replaceChildren(
      line("Width", "window-width", now.width, span / 500, span, (width) => apply({ width })),
      line("Level", "window-level", now.level, least, most, (level) => apply({ level })));
  },

  lesions(description, go) {
    byId("lesion-section").hidden = !description.lesions.length;
    byId("lesion-title").textContent = `Lesions of ${description.lesion_region} (${description.lesions.length})`;
    byId("lesions").tBodies[0].replaceChildren(...description.lesions.map((one, number) =>
      element("tr", { onclick: () => go(number), title: "Go there" },
        element("td", { text: number + 1 }),
        element("td", {}, element("span", { class: `status ${one.status}`, text: one.status === "alone" ? "lesion" : one.status })),
        element("td", { text: one.share === null ? "" : `${Math.round(one.share * 100)} %`, title: "of its voxels are predicted" }),
        element("td", { text: `${milliliters(one.ml)} ml` }))));
  },

  selectLesion(number) {
    for (const [place, row] of [...byId("lesions").rows].entries()) {
      row.setAttribute("aria-selected", place === number);
      if (place === number) row.scrollIntoView({ block: "nearest" });
    }
  },

  cursor(description, mm, { voxel, values, labels }) {
    const names = Object.fromEntries(description.labels.map((one) => [one.value, one.name]));
    const part = (name, text) => element("span", {}, element("b", { text: name }), text);
    const shown = (value) => (Number.isInteger(value) ? String(value) : value.toPrecision(4));
    byId("cursor").replaceChildren(
      part("mm RAS", mm.map((one) => one.toFixed(1)).join(", ")), part("voxel IJK", voxel.join(", ")),
      ...description.modalities.filter((one) => one.name in values).map((one) => part(one.title, shown(values[one.name]))),
      ...Object.entries(labels).map(([which, value]) => part(which, value ? `${names[value] ?? value} (${value})` : "–")));
  },

  // The list of cases, worst first: sorted by a column, filtered by a word.
  cases({ cases, regions, pending }, state, open) {
    const isScored = cases.some((one) => one.mean !== null && one.mean !== undefined);
    const columns = [["case", "Case"], ...(isScored ? regions.map((name) => [name, name]) : [])];
    const valueOf = (one) => (state.sort === "case" ? one.case : state.sort === "mean" ? one.mean : one.dice?.[state.sort]);
    const isMissing = (one) => valueOf(one) === null || valueOf(one) === undefined;
    const sorted = [...cases].sort((a, b) => {
      if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b) || a.number - b.number;
      const order = state.sort === "case" ? a.case.localeCompare(b.case, undefined, { numeric: true }) : valueOf(a) - valueOf(b);
      return state.isDescending ? -order : order;
    });
    state.order = sorted.map((one) => one.number);
    const sortBy = (name) => {
      state.isDescending = state.sort === name && !state.isDescending;
      state.sort = name;
      Panel.cases({ cases, regions, pending }, state, open);
    };
    byId("case-table").tHead.replaceChildren(element("tr", {}, ...columns.map(([name, title]) => {
      const arrow = state.sort === name ? (state.isDescending ? " ↓" : " ↑") : "";
      const sorting = state.sort === name ? (state.isDescending ? "descending" : "ascending") : undefined;
      return element("th", { text: title + arrow, "aria-sort": sorting, onclick: () => sortBy(name), title: "Sort" });
    })));
    const word = byId("case-filter").value.trim().toLowerCase();
    byId("case-table").tBodies[0].replaceChildren(...sorted.filter((one) => one.case.toLowerCase().includes(word)).map((one) => {
      const cells = columns.slice(1).map(([name]) => (one.error ? element("td", { text: "" }) : scoreCell(one.dice?.[name], 2)));
      if (one.error && cells.length) cells.splice(0, cells.length, element("td", { text: "error", title: one.error, class: "status missed", colspan: columns.length - 1 }));
      return element("tr", { "aria-selected": one.number === state.number, tabindex: 0, onclick: () => open(one.number),
        onkeydown: (event) => { if (event.key === "Enter") open(one.number); } }, element("td", { text: one.case }), ...cells);
    }));
    const order = state.sort === "mean" ? (isScored ? "worst mean Dice first" : "by name") : state.sort === "case" ? "by name" : `by Dice of ${state.sort}`;
    byId("case-state").textContent = pending ? `scoring, ${pending} to go …` : `${cases.length} cases, ${order}`;
  },

  help(keys) {
    byId("help-keys").replaceChildren(...keys.map(([combination, text]) =>
      element("div", {}, element("span", {}, ...combination.split(" ").map((key) => element("kbd", { text: key }))), element("span", { text }))));
  },
};
