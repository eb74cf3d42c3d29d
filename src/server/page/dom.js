// Making and changing elements. Whatever comes from the proxy becomes text here, never markup.

const SVG = 'http://www.w3.org/2000/svg';

export const byId = (id) => document.getElementById(id);

/** Sets what differs: a class, an attribute, or a property of `data-`. */
export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const now = node.getAttribute(name);
    if (value === null || value === undefined || value === false) {
      if (now !== null) node.removeAttribute(name);
    } else if (now !== String(value)) {
      node.setAttribute(name, String(value));
    }
  }
  return node;
}

const wanted = (child) => child !== null && child !== undefined && child !== '' && child !== false;

/** An element with attributes and children, which are elements or text. */
export function el(tag, attributes, ...children) {
  const node = set(document.createElement(tag), attributes ?? {});
  node.append(...children.filter(wanted));
  return node;
}

/** An element of a drawing. */
export function drawn(tag, attributes, ...children) {
  const node = set(document.createElementNS(SVG, tag), attributes ?? {});
  node.append(...children);
  return node;
}

/** Sets the text where it differs, so that a selection outlives a reading. */
export function say(node, text) {
  const now = text ?? '';
  if (node.textContent !== now) node.textContent = now;
  return node;
}

/** Puts children in where they differ from what is there. */
export function fill(node, ...children) {
  const holder = el(node.tagName, null, ...children);
  if (!sameChildren(node, holder)) node.replaceChildren(...holder.childNodes);
  return node;
}

function sameChildren(one, other) {
  if (one.childNodes.length !== other.childNodes.length) return false;
  return [...one.childNodes].every((child, index) => child.isEqualNode(other.childNodes[index]));
}

/** Lists children in this order; those that stay are not touched, and the focus stays where it is. */
export function arrange(parent, children) {
  const focus = document.activeElement;
  const stays = new Set(children);
  for (const child of [...parent.children]) if (!stays.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  if (focus !== document.activeElement && focus?.isConnected) focus.focus({ preventScroll: true });
}

/** A state: a sign, a word, a shade. The sign and the word say it without the shade. */
export function tag(sign, word, shade) {
  return el('span', { class: `tag ${shade ?? ''}` }, el('span', { 'aria-hidden': 'true', class: 'sign' }, sign), word);
}

/** A table in which every cell knows its column, so that a phone can stack them. */
export function table(columns, rows, label) {
  const head = el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' },
    ...columns.map((name) => el('th', { role: 'columnheader', scope: 'col' }, name))));
  const body = el('tbody', { role: 'rowgroup' }, ...rows.map((cells) => el('tr', { role: 'row' },
    ...cells.map((cell, index) => el('td', { role: 'cell', 'data-name': columns[index] }, cell)))));
  return el('table', { role: 'table', class: 'list', 'aria-label': label }, head, body);
}
