// Label maps made of others, voxel by voxel. Arrays are in file order: I runs fastest; `dims` is [I, J, K].
"use strict";

const Labels = {
  MISSED: 1,
  FALSE: 2,

  // The outlines of sets of labels, outermost first, each drawn in the label `color_of`: voxels of the set with a
  // neighbour outside it. Neighbours are those in the plane across `axis` (0, 1, 2: I, J, K), or in all directions (null).
  outlined(labels, dims, sets, axis) {
    const out = new Uint8Array(labels.length);
    const strides = [1, dims[0], dims[0] * dims[1]];
    const axes = [0, 1, 2].filter((one) => one !== axis);
    for (const set of sets) {
      const isIn = new Uint8Array(256);
      for (const value of set.values) isIn[value] = 1;
      for (let voxel = 0; voxel < labels.length; voxel++) {
        if (labels[voxel] === 0 || !isIn[labels[voxel]]) continue;
        for (const one of axes) {
          const place = Math.floor(voxel / strides[one]) % dims[one];
          const isEdge = place === 0 || place === dims[one] - 1;
          if (isEdge || !isIn[labels[voxel - strides[one]]] || !isIn[labels[voxel + strides[one]]]) {
            out[voxel] = set.color_of;
            break;
          }
        }
      }
    }
    return out;
  },

  // Where two label maps disagree about a set of labels: MISSED (reference only) or FALSE (prediction only).
  differing(reference, prediction, values) {
    const out = new Uint8Array(reference.length);
    const isIn = new Uint8Array(256);
    for (const value of values) isIn[value] = 1;
    for (let voxel = 0; voxel < out.length; voxel++) {
      const first = isIn[reference[voxel]], second = isIn[prediction[voxel]];
      if (first !== second) out[voxel] = first ? Labels.MISSED : Labels.FALSE;
    }
    return out;
  },

  // The labels without the hidden ones.
  without(labels, hidden) {
    if (!hidden.size) return labels.slice();
    const keep = new Uint8Array(256).map((_, value) => (hidden.has(value) ? 0 : value));
    return labels.map((value) => keep[value]);
  },

  // NiiVue's colour table of [{value, color, name}]; background is clear.
  table(entries) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const { value, color, name } of [...entries].sort((a, b) => a.value - b.value)) {
      table.R.push(color[0]);
      table.G.push(color[1]);
      table.B.push(color[2]);
      table.A.push(255);
      table.I.push(value);
      table.labels.push(name);
    }
    return table;
  },
};
