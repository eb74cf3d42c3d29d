// Small charts of the last minutes: drawings without an axis, whose numbers stand beside them.

import { drawn, el, say, set } from './dom.js';

const HEIGHT = 24;

/** A drawing of so many points; the newest is at the right edge. */
export function chart(slots, label) {
  const box = { viewBox: `0 0 ${slots} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'chart', role: 'img', 'aria-label': label };
  return drawn('svg', box);
}

const heightOf = (value, highest) => HEIGHT - 1 - (value / highest) * (HEIGHT - 2);

/** The way along the points; it begins anew after a gap. */
function line(values, slots, highest) {
  let path = '';
  let gap = true;
  values.forEach((value, index) => {
    if (value === null) { gap = true; return; }
    const x = slots - values.length + index + 0.5;
    // A point between two gaps is a dot.
    path += `${gap ? 'M' : 'L'}${x} ${heightOf(value, highest).toFixed(2)}${gap ? 'h.01' : ''}`;
    gap = false;
  });
  return path;
}

/** One column for each point that is not zero. */
function bars(values, slots, highest) {
  let path = '';
  values.forEach((value, index) => {
    if (!value) return;
    const x = slots - values.length + index;
    const top = Math.min(heightOf(value, highest), HEIGHT - 2);
    path += `M${x} ${HEIGHT}V${top.toFixed(2)}h1V${HEIGHT}z`;
  });
  return path;
}

/** Draws these layers, each `{ values, as: 'line' | 'bars', shade }`, on one scale. */
export function draw(node, slots, layers, label) {
  const highest = Math.max(1e-9, ...layers.flatMap((layer) => layer.values.map((value) => value ?? 0)));
  layers.forEach((layer, index) => {
    const path = node.children[index] ?? node.appendChild(drawn('path'));
    const way = layer.as === 'line' ? line(layer.values, slots, highest) : bars(layer.values, slots, highest);
    set(path, { class: `${layer.as} ${layer.shade}`, d: way });
  });
  while (node.children.length > layers.length) node.lastChild.remove();
  set(node, { 'aria-label': label });
}

/** A chart with its name and its number. */
export function figure(name, slots) {
  const value = el('b');
  const note = el('span', { class: 'quiet' });
  const drawing = chart(slots, name);
  const node = el('div', { class: 'figure' }, el('div', { class: 'figure-name' }, name), value, note, drawing);
  return {
    node,
    show(now, more, layers, label) {
      say(value, now);
      say(note, more);
      if (layers) draw(drawing, slots, layers, label);
    },
  };
}

/** How much of a limit is used, as a bar with its numbers. */
export function gauge() {
  const words = el('b');
  const note = el('span', { class: 'quiet' });
  // The numbers beside it say the same.
  const bar = el('meter', { min: 0, max: 1, 'aria-hidden': 'true' });
  const node = el('div', { class: 'gauge' }, words, note, bar);
  return {
    node,
    /** `empty`: little left is bad, as of a budget; else much is, as of seats. */
    show(text, more, used, limit, empty) {
      say(words, text);
      say(note, more);
      const has = limit > 0;
      set(bar, { hidden: !has });
      if (!has) return;
      const share = Math.min(1, Math.max(0, used / limit));
      set(bar, empty
        ? { low: 0.1, high: 0.3, optimum: 1, value: share.toFixed(3) }
        : { low: 0.8, high: 0.999, optimum: 0, value: share.toFixed(3) });
    },
  };
}
