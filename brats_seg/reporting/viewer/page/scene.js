// One case on the canvases: NiiVue instances for slices, for the modalities side by side, and for surfaces.
"use strict";

const PLANES = { axial: 0, coronal: 1, sagittal: 2 }; // NiiVue's numbers
const WORLD = { sagittal: 0, coronal: 1, axial: 2 }; // which of R, A, S runs across the slices
const ERROR_COLORS = [
  { value: Labels.MISSED, color: [86, 180, 233], name: "missed" },
  { value: Labels.FALSE, color: [240, 110, 20], name: "false" },
];
const OPTIONS = {
  isRadiologicalConvention: true, backColor: [0.024, 0.031, 0.039, 1], crosshairColor: [0.45, 0.8, 1, 0.75],
  crosshairWidth: 0.3, crosshairWidthUnit: "percent", crosshairGap: 3, showAllOrientationMarkers: true, fontColor: [0.62, 0.69, 0.77, 1], fontMinPx: 12, fontSizeScaling: 0.3,
  dragAndDropEnabled: false, logLevel: "error", loadingText: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
  viewModeHotKey: "", isNearestInterpolation: true, multiplanarShowRender: 0, show3Dcrosshair: true, isOrientCube: false,
  tileMargin: 0, doubleTouchTimeout: 0,
  // NiiVue's numbers of what dragging does: 3 moves the picture, 8 the cursor, 9 changes window and level
  mouseEventConfig: { leftButton: { primary: 8 }, rightButton: 9, centerButton: 3 },
};

class Scene {
  // `description` is scene.json; `bytes(name)` gives a file of it as an ArrayBuffer.
  constructor(description, bytes, canvases, onChange) {
    this.description = description;
    this.bytes = bytes;
    this.canvases = canvases; // Stage
    this.onChange = onChange;
    this.images = {};
    this.labels = {};
    this.overlays = {};
    this.mm = description.center_mm;
    this.inverse = inverted(description.affine);
    this.windows = Object.fromEntries(description.modalities.map((one) => [one.name, [...one.window]]));
    this.isClosed = false;
  }

  async image(name) {
    if (!this.images[name]) {
      const [low, high] = this.windows[name];
      this.images[name] = this.bytes(`${name}.nii`).then((buffer) =>
        niivue.NVImage.new(buffer, `${name}.nii`, "gray", 1, null, low, high));
    }
    const image = await this.images[name];
    this.images[name].value = image;
    return image;
  }

  async open(settings) {
    const opening = [this.image(settings.modality)];
    for (const which of this.description.label_maps) opening.push(this.openLabels(which));
    await Promise.all(opening);
  }

  async openLabels(which) {
    const image = await niivue.NVImage.new(await this.bytes(`${which}.nii`), `${which}.nii`, "gray", 1, null, 0, 255);
    this.labels[which] = image.img.slice();
    this.overlays[which] = image;
  }

  get dims() {
    return Object.values(this.images).find((one) => one.value).value.hdr.dims.slice(1, 4);
  }

  // Give the overlays the voxels that the settings ask for, in the plane that is shown.
  paint(settings) {
    const { label_maps: maps, labels, outlines, regions } = this.description;
    const plane = settings.layout === "grid" ? settings.plane : settings.layout;
    const axis = this.description.axes[plane] ?? null;
    const isError = settings.errors && maps.length === 2;
    for (const which of maps) {
      const overlay = this.overlays[which], style = settings.styles[which];
      const isErrorLayer = isError && which === "prediction";
      if (isErrorLayer) {
        overlay.img = Labels.differing(this.labels.reference, this.labels.prediction, regions[settings.errors]);
      } else if (style === "outline") {
        overlay.img = Labels.without(Labels.outlined(this.labels[which], this.dims, outlines, axis), settings.hidden);
      } else {
        overlay.img = Labels.without(this.labels[which], settings.hidden);
      }
      overlay.setColormapLabel(Labels.table(isErrorLayer ? ERROR_COLORS : labels));
      const isSeen = !settings.isBare && (isErrorLayer || (style !== "off" && !isError));
      overlay.opacity = isSeen ? (isErrorLayer ? 0.75 : style === "outline" ? Math.min(1, settings.opacity * 3) : settings.opacity) : 0;
    }
  }

  // Labels and intensities at the cursor, of all that is loaded.
  valuesAt(mm) {
    const voxel = transformed(this.inverse, mm).map(Math.round);
    const dims = this.dims;
    const isInside = voxel.every((place, axis) => place >= 0 && place < dims[axis]);
    const index = voxel[0] + dims[0] * (voxel[1] + dims[1] * voxel[2]);
    const values = {};
    for (const { name } of this.description.modalities) {
      const image = this.images[name]?.value;
      if (image) values[name] = isInside ? image.img[index] : 0;
    }
    const labels = Object.fromEntries(this.description.label_maps.map((which) => [which, isInside ? this.labels[which][index] : 0]));
    return { voxel: voxel.map((place, axis) => place + this.description.first[axis]), values, labels };
  }

  setWindow(name, low, high) {
    this.windows[name] = [low, high];
    const image = this.images[name]?.value;
    if (image) [image.cal_min, image.cal_max] = [low, high];
  }
}

// The canvases. They outlive a case: a browser has only so many WebGL contexts.
class Stage {
  constructor(onCursor, onWindow) {
    this.onCursor = onCursor;
    this.onWindow = onWindow;
    this.tiles = [];
    this.isFollowing = false;
  }

  async start() {
    this.main = await this.instance(document.getElementById("canvas"));
  }

  async instance(canvas, more = {}) {
    const nv = new niivue.Niivue({ ...OPTIONS, ...more });
    await nv.attachToCanvas(canvas);
    nv.onLocationChange = (place) => this.followed(nv, place.mm);
    nv.onIntensityChange = (image) => this.onWindow(image);
    return nv;
  }

  followed(nv, mm) {
    if (this.isFollowing || !this.scene || !nv.volumes.length) return;
    this.isFollowing = true;
    this.scene.mm = [mm[0], mm[1], mm[2]];
    for (const other of this.shown) {
      if (other === nv) continue;
      if (other.volumes.length) {
        other.scene.crosshairPos = other.mm2frac(this.scene.mm);
        if (nv.opts.sliceType !== 4 && nv !== this.main) other.scene.pan2Dxyzmm = [...nv.scene.pan2Dxyzmm];
        other.drawScene();
      }
    }
    this.isFollowing = false;
    this.markSolid();
    this.onCursor(this.scene.mm);
  }

  // Move the cursor among the surfaces; a volume is not drawn again for it, which takes seconds without a graphics card.
  markSolid() {
    if (!this.solid?.meshes.length || document.getElementById("solid").hidden) return;
    this.solid.scene.crosshairPos = this.solid.mm2frac(this.scene.mm);
    this.solid.drawScene();
  }

  // The instances that draw slices now.
  get shown() {
    if (this.layout === "grid") return this.tiles.filter((tile) => tile.volumes.length);
    return this.layout === "solid" ? [] : [this.main];
  }

  async show(scene, settings) {
    this.scene = scene;
    this.layout = settings.layout;
    document.getElementById("stage").dataset.layout = settings.layout;
    document.getElementById("slices").hidden = ["grid", "solid"].includes(settings.layout);
    document.getElementById("grid").hidden = settings.layout !== "grid";
    document.getElementById("solid").hidden = !["planes", "solid"].includes(settings.layout) || !scene.description.meshes.length;
    scene.paint(settings);
    if (settings.layout === "grid") await this.showGrid(scene, settings);
    else if (settings.layout !== "solid") await this.showSlices(scene, settings);
    this.moveTo(scene.mm);
  }

  async showSlices(scene, settings) {
    const image = await scene.image(settings.modality);
    this.load(this.main, [image, ...Object.values(scene.overlays)]);
    if (settings.layout === "planes") {
      this.main.setSliceType(3);
      const half = [0.4985, 0.4985];
      this.main.setCustomLayout([
        { sliceType: 0, position: [0, 0, ...half] }, { sliceType: 2, position: [0.5015, 0, ...half] },
        { sliceType: 1, position: [0, 0.5015, ...half] },
      ]);
    } else {
      this.main.customLayout = null;
      this.main.setSliceType(PLANES[settings.layout]);
    }
  }

  async showGrid(scene, settings) {
    const names = scene.description.modalities.map((one) => one.name);
    const box = document.getElementById("grid");
    box.style.gridTemplate = names.length > 2 ? "1fr 1fr / 1fr 1fr" : `1fr / repeat(${names.length}, 1fr)`;
    while (this.tiles.length < names.length) {
      const pane = Object.assign(document.createElement("div"), { className: "pane" });
      const canvas = document.createElement("canvas");
      pane.append(canvas, Object.assign(document.createElement("span"), { className: "tag" }));
      box.append(pane);
      this.tiles.push(await this.instance(canvas));
    }
    for (const [number, tile] of this.tiles.entries()) {
      const pane = box.children[number];
      pane.hidden = number >= names.length;
      if (pane.hidden) continue;
      pane.querySelector(".tag").textContent = scene.description.modalities[number].title;
      tile.opts.sliceType = PLANES[settings.plane];
      this.load(tile, [await scene.image(names[number]), ...Object.values(scene.overlays)]);
    }
  }

  load(nv, volumes) {
    nv.volumes = volumes;
    nv.back = volumes[0];
    nv.overlays = volumes.slice(1);
    nv.updateGLVolume();
  }

  moveTo(mm) {
    if (!this.scene) return;
    this.scene.mm = mm;
    for (const nv of this.shown) {
      nv.scene.crosshairPos = nv.mm2frac(mm);
      nv.drawScene();
    }
    this.markSolid();
    this.onCursor(mm);
  }

  redraw() {
    for (const nv of this.shown) nv.updateGLVolume();
  }

  // Zoom about the cursor.
  zoom(factor) {
    for (const nv of this.shown) {
      const [x, y, z, scale] = nv.scene.pan2Dxyzmm;
      const next = Math.min(12, Math.max(1, scale * factor));
      const moved = next === 1 ? [0, 0, 0] : [x, y, z].map((one, axis) => one + (scale - next) * this.scene.mm[axis]);
      nv.setPan2Dxyzmm([...moved, next]);
    }
  }

  resetZoom() {
    for (const nv of this.shown) nv.setPan2Dxyzmm([0, 0, 0, 1]);
  }

  async emptySolid() {
    if (!this.solid) {
      this.solid = await this.instance(document.getElementById("canvas-3d"), { isOrientCube: true, clipPlaneColor: [0, 0, 0, 0] });
      this.solid.setSliceType(4);
      this.solid.setRenderAzimuthElevation(145, 18);
    }
    while (this.solid.meshes.length) this.solid.removeMesh(this.solid.meshes[0]);
    while (this.solid.volumes.length) this.solid.removeVolume(this.solid.volumes[0]);
  }

  // The modality as a solid, cut open through the cursor from the side that it lies on.
  async showVolume(scene, settings) {
    await this.emptySolid();
    this.load(this.solid, [await scene.image(settings.modality), ...Object.values(scene.overlays)]);
    const place = this.solid.mm2frac(scene.mm)[0] - 0.5;
    this.solid.setRenderAzimuthElevation(place < 0 ? 145 : 215, 18);
    this.solid.setClipPlane([Math.abs(place), place < 0 ? 270 : 90, 0]);
    this.solid.scene.crosshairPos = this.solid.mm2frac(scene.mm);
    this.solid.drawScene();
  }

  // Surfaces of one label map, with the brain's as a faint shell.
  async showSurfaces(scene, which) {
    await this.emptySolid();
    const wanted = scene.description.meshes.filter((one) => one.of === which); // innermost first, as blending needs it
    const brain = scene.description.meshes.filter((one) => one.of === "brain");
    for (const one of [...wanted, ...brain]) {
      const opacity = one.of === "brain" ? 0.17 : [1, 0.5, 0.3][Math.min(2, wanted.indexOf(one))];
      const buffer = await scene.bytes(one.file);
      if (this.scene !== scene) return;
      const color = new Uint8Array([...one.color, 255]);
      this.solid.addMesh(await niivue.NVMesh.readMesh(buffer, one.file, this.solid.gl, opacity, color));
    }
    this.markSolid();
  }
}

// The inverse of an affine with axes at right angles.
function inverted(affine) {
  const columns = [0, 1, 2].map((axis) => affine.slice(0, 3).map((row) => row[axis]));
  const origin = affine.slice(0, 3).map((row) => row[3]);
  const rows = columns.map((column) => {
    const square = column.reduce((sum, one) => sum + one * one, 0);
    return column.map((one) => one / square);
  });
  return rows.map((row) => [...row, -row.reduce((sum, one, axis) => sum + one * origin[axis], 0)]);
}

function transformed(affine, point) {
  return affine.slice(0, 3).map((row) => row[0] * point[0] + row[1] * point[1] + row[2] * point[2] + row[3]);
}
