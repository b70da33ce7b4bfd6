// The page: settings, what changes them, and where the data comes from (the server, or the page itself when saved).
"use strict";

const settings = {
  modality: null, layout: "planes", plane: "axial", styles: { reference: "fill", prediction: "outline" }, opacity: 0.3,
  errors: null, hidden: new Set(), isBare: false, surfaces: null, lesion: -1,
};
const list = { sort: "mean", isDescending: false, order: [], number: null, cases: null };
const inline = byId("inline") ? JSON.parse(byId("inline").textContent) : null;
let scene = null;
let stage = null;
let surfacesShown = null;

async function answer(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

async function unpacked(base64, isPacked) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  if (!isPacked) return bytes.buffer;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const LAYOUTS = [
  ["planes", "Planes", "Three planes and 3D (M)"], ["axial", "Axial", "A"], ["coronal", "Coronal", "C"],
  ["sagittal", "Sagittal", "S"], ["solid", "3D", "V"],
];
const KEYS = [
  ["1 2 3 4", "modality"], ["G", "all modalities side by side"], ["M", "three planes and 3D"], ["A C S", "axial, coronal, sagittal"],
  ["V", "3D"], ["N ⇧N", "next, previous lesion"], ["W", "slice with most wrong voxels"], ["↑ ↓", "next, previous slice"],
  ["PgUp PgDn", "ten slices"], ["R P", "reference, prediction on and off"], ["O", "prediction as outline or filled"],
  ["E", "errors: off, then each region"], ["H", "hide all overlays, show again"], ["[ ]", "opacity"], ["B", "window as at first"],
  ["+ − 0", "zoom in, out, back"], ["J K", "next, previous case"], ["?", "this help"],
  ["click drag", "move the cursor"], ["wheel", "slices"], ["right-drag", "window (sideways), level"], ["middle-drag", "move the picture"],
];

async function change(more, { isSolid = true } = {}) {
  Object.assign(settings, more);
  if (!scene) return;
  press(byId("modalities"), settings.layout === "grid" ? "grid" : settings.modality);
  press(byId("layouts"), settings.layout === "grid" ? settings.plane : settings.layout);
  if (Object.keys(more).join() === "opacity") byId("opacity").value = settings.opacity; // a slider that is held stays
  else Panel.overlays(scene.description, settings, change);
  byId("bare").hidden = !settings.isBare || !scene.description.label_maps.length;
  showWindow();
  await stage.show(scene, settings);
  if (isSolid) await showSurfaces();
  document.body.dataset.drawn = Number(document.body.dataset.drawn ?? 0) + 1;
}

// Surfaces are drawn where they are seen, and only when they are others than before.
async function showSurfaces() {
  const { meshes, label_maps: maps } = scene.description;
  if (!meshes.length || byId("solid").hidden) return;
  if (![...maps, "volume"].includes(settings.surfaces)) settings.surfaces = maps.includes("reference") ? "reference" : maps[0];
  const options = [...maps.map((which) => [which, which[0].toUpperCase() + which.slice(1)]), ["volume", "Volume", "The modality itself, cut open at the cursor"]];
  choice(byId("solid-choice"), options, settings.surfaces, (surfaces) => change({ surfaces }));
  const isVolume = settings.surfaces === "volume";
  if (!isVolume && surfacesShown?.scene === scene && surfacesShown.which === settings.surfaces) {
    stage.markSolid();
    return;
  }
  surfacesShown = { scene, which: settings.surfaces };
  if (isVolume) await stage.showVolume(scene, settings);
  else await stage.showSurfaces(scene, settings.surfaces);
}

function showWindow() {
  const modality = scene.description.modalities.find((one) => one.name === settings.modality);
  byId("window-title").textContent = `Window of ${modality.title}`;
  Panel.window(modality, scene.windows[modality.name], (low, high) => {
    scene.setWindow(modality.name, low, high);
    stage.redraw();
  });
}

function setModality(name) {
  if (name === "grid") return change({ layout: "grid", plane: settings.layout in PLANES ? settings.layout : settings.plane });
  return change({ modality: name, layout: settings.layout === "grid" ? settings.plane : settings.layout });
}

function setLayout(name) {
  if (settings.layout === "grid" && name in PLANES) return change({ plane: name });
  return change({ layout: name, plane: name in PLANES ? name : settings.plane });
}

function goToLesion(number) {
  const { lesions } = scene.description;
  if (!lesions.length) return;
  settings.lesion = (number + lesions.length) % lesions.length;
  Panel.selectLesion(settings.lesion);
  byId("lesion-number").textContent = `${settings.lesion + 1}/${lesions.length}`;
  stage.moveTo(lesions[settings.lesion].mm);
}

function goToWorst() {
  const { worst } = scene.description;
  const plane = settings.layout in PLANES ? settings.layout : settings.plane;
  if (worst[plane]) stage.moveTo(worst[plane].mm);
}

function step(num) {
  const plane = settings.layout in PLANES ? settings.layout : settings.plane;
  const axis = scene.description.axes[plane], mm = [...scene.mm];
  const row = scene.description.affine.map((one) => one[axis]);
  const sign = Math.sign(row[WORLD[plane]]) || 1;
  stage.moveTo(mm.map((one, place) => one + sign * num * row[place]));
}

function cycleErrors() {
  if (scene.description.label_maps.length < 2) return;
  const steps = [null, ...Object.keys(scene.description.regions).reverse()];
  change({ errors: steps[(steps.indexOf(settings.errors) + 1) % steps.length] });
}

function toggle(which, on) {
  if (!scene.description.label_maps.includes(which)) return;
  change({ styles: { ...settings.styles, [which]: settings.styles[which] === "off" ? on : "off" }, errors: null });
}

function nextCase(num) {
  const place = list.order.indexOf(list.number) + num;
  if (place >= 0 && place < list.order.length) openCase(list.order[place]);
}

const ACTIONS = {
  "1": () => nthModality(0), "2": () => nthModality(1), "3": () => nthModality(2), "4": () => nthModality(3),
  g: () => setModality("grid"), m: () => setLayout("planes"), a: () => setLayout("axial"), c: () => setLayout("coronal"),
  s: () => setLayout("sagittal"), v: () => setLayout("solid"),
  n: () => goToLesion(settings.lesion + 1), N: () => goToLesion(Math.max(settings.lesion, 0) - 1), w: goToWorst,
  ArrowUp: () => step(1), ArrowDown: () => step(-1), PageUp: () => step(10), PageDown: () => step(-10),
  r: () => toggle("reference", "fill"), p: () => toggle("prediction", "outline"),
  o: () => change({ styles: { ...settings.styles, prediction: settings.styles.prediction === "outline" ? "fill" : "outline" }, errors: null }),
  e: cycleErrors, h: () => change({ isBare: !settings.isBare }),
  "[": () => change({ opacity: Math.max(0, settings.opacity - 0.1) }), "]": () => change({ opacity: Math.min(1, settings.opacity + 0.1) }),
  b: resetWindow, "+": () => stage.zoom(1.25), "=": () => stage.zoom(1.25), "-": () => stage.zoom(0.8), "0": () => stage.resetZoom(),
  j: () => nextCase(1), k: () => nextCase(-1), "?": () => byId("help").showModal(),
};

function nthModality(number) {
  const one = scene.description.modalities[number];
  if (one) setModality(one.name);
}

function resetWindow() {
  const modality = scene.description.modalities.find((one) => one.name === settings.modality);
  scene.setWindow(modality.name, ...modality.window);
  showWindow();
  stage.redraw();
}

window.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.target.matches?.("input:not([type=range]), select")) return;
  const key = event.key.length === 1 && event.key !== "N" ? event.key.toLowerCase() : event.key;
  const action = ACTIONS[key];
  if (!action || !scene) return;
  event.preventDefault();
  event.stopImmediatePropagation(); // NiiVue has keys of its own
  action();
}, true);

async function openCase(number) {
  byId("busy").hidden = false;
  document.body.dataset.state = "opening";
  list.number = number;
  if (list.cases) Panel.cases(list.cases, list, openCase);
  const description = inline ? inline.scene : await (await answer(`cases/${number}/scene.json`)).json();
  if (list.number !== number) return;
  const bytes = inline
    ? (name) => unpacked(inline.files[name], name.endsWith(".nii"))
    : async (name) => (await answer(`cases/${number}/${encodeURIComponent(name)}`)).arrayBuffer();
  byId("case-name").textContent = description.case;
  byId("edition").textContent = description.edition ?? "";
  document.title = `${description.case} · brats_seg viewer`;
  showProblem(description.error);
  if (description.error) return;
  const next = new Scene(description, bytes);
  const names = description.modalities.map((one) => one.name);
  if (!names.includes(settings.modality)) settings.modality = names.includes("flair") ? "flair" : names.at(-1);
  await next.open(settings);
  if (list.number !== number) return;
  scene = next;
  settings.lesion = -1;
  settings.hidden = new Set();
  if (!(settings.errors in description.regions)) settings.errors = null;
  showCase(description, names);
  scene.mm = startOf(description);
  await change({}, { isSolid: false });
  byId("busy").hidden = true;
  document.body.dataset.state = "ready"; // the slices are there; surfaces and the other modalities follow
  await new Promise((resolve) => setTimeout(resolve));
  await showSurfaces();
  for (const name of names) await scene.image(name); 
  if (scene === next) stage.onCursor(scene.mm);
  document.body.dataset.state = "complete";
  const place = list.order.indexOf(number) + 1; // have the next case read meanwhile
  if (!inline && place > 0 && place < list.order.length) await answer(`cases/${list.order[place]}/scene.json`);
}

function showCase(description, names) {
  const titles = description.modalities.map((one, number) => [one.name, one.title, `${number + 1}`]);
  if (names.length > 1) titles.push(["grid", "Side by side", "All modalities (G)"]);
  choice(byId("modalities"), titles, settings.modality, setModality);
  choice(byId("layouts"), LAYOUTS.filter(([name]) => name !== "solid" || description.meshes.length), settings.layout, setLayout);
  Panel.numbers(description);
  Panel.lesions(description, goToLesion);
  byId("lesion-number").textContent = `–/${description.lesions.length}`;
  for (const id of ["next-lesion", "previous-lesion"]) byId(id).disabled = !description.lesions.length;
  byId("worst-slice").disabled = !Object.keys(description.worst).length;
  if (description.missing.length) byId("edition").textContent += ` · without ${description.missing.join(", ")}`;
}

// Where the cursor is at first: in the worst axial slice, else in the largest lesion, else in the middle.
function startOf(description) {
  return description.worst.axial?.mm ?? description.lesions[0]?.mm ?? description.center_mm;
}

function showProblem(text) {
  byId("message").hidden = !text;
  byId("message").textContent = text ?? "";
  if (text) {
    byId("busy").hidden = true;
    document.body.dataset.state = "problem";
  }
}

// Ask for the list until all cases are scored; open the worst as soon as it is known, but wait two seconds at most.
async function watchCases() {
  const began = performance.now();
  for (;;) {
    list.cases = await (await answer("cases.json")).json();
    byId("cases").hidden = list.cases.cases.length < 2;
    Panel.cases(list.cases, list, openCase);
    const isTime = !list.cases.pending || list.cases.cases.length < 2 || performance.now() - began > 2000;
    if (list.number === null && isTime) openCase(list.order[0]).catch(fail);
    if (!list.cases.pending) return;
    await new Promise((resolve) => setTimeout(resolve, list.cases.cases.length > 200 ? 1500 : 250));
  }
}

function fail(error) {
  showProblem(`The viewer stopped: ${error.message ?? error}. Is the command still running?`);
  console.error(error);
}

async function start() {
  Panel.help(KEYS);
  byId("help-button").addEventListener("click", () => byId("help").showModal());
  byId("next-lesion").addEventListener("click", () => goToLesion(settings.lesion + 1));
  byId("previous-lesion").addEventListener("click", () => goToLesion(Math.max(settings.lesion, 0) - 1));
  byId("worst-slice").addEventListener("click", goToWorst);
  byId("window-reset").addEventListener("click", resetWindow);
  byId("case-filter").addEventListener("input", () => Panel.cases(list.cases, list, openCase));
  byId("case-filter").addEventListener("keydown", (event) => { // and the keys are the viewer's again
    if (event.key === "Enter" || event.key === "Escape") event.target.blur();
  });
  byId("busy").hidden = false;
  if (!document.createElement("canvas").getContext("webgl2")) {
    showProblem("This browser has no WebGL 2, which the pictures need. Turn on hardware acceleration, or use another browser.");
    return;
  }
  stage = new Stage(
    (mm) => { if (scene) Panel.cursor(scene.description, mm, scene.valuesAt(mm)); },
    (image) => {
      const name = image.name?.replace(/\.nii$/, "");
      if (!scene || !(name in scene.windows)) return;
      scene.windows[name] = [image.cal_min, image.cal_max];
      if (name === settings.modality) showWindow();
    });
  await stage.start();
  if (inline) await openCase(0);
  else await watchCases();
}

window.addEventListener("unhandledrejection", (event) => fail(event.reason));
start().catch(fail);
