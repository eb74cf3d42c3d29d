// The requests that failed lately, and what happened to one of them.

import { arrange, byId, el, fill, say, set, tag } from './dom.js';
import { clock, duration, number, plural } from './words.js';

const EVERY = 2000; // ms between two readings while the page is seen
const REFUSED = 30_000; // ms until it is asked again for what is not to be had
const SHOWN = 30;
const SIGNS = { route: '⇢', seat: '▫', wait: '…', try: '→', decision: '?', breaker: '◐', fallback: '↩', answer: '■' };

async function read(path) {
  const answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(4000) });
  if (answer.ok) return answer.json();
  // A refusal says why.
  const { error } = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(error ?? `status ${answer.status}`), { refused: true });
}

const sentence = (error) => `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
const nameOf = (request) => [request.method ?? 'no request', request.path].filter(Boolean).join(' ');
const isFailed = (request) => request.kept_for.some((why) => why === 'failed' || why === 'fallback');

/** What is alike is told once: a hundred refusals of one kind must not hide the one of another. */
const kindOf = (request) => [request.upstream, nameOf(request), request.status, request.reason, isFailed(request)].join('\n');

/** One request, or the newest of those that are alike. */
function row(request) {
  const open = el('a', { class: 'button', href: `#request=${encodeURIComponent(request.request_id)}`, 'aria-label': `explain ${nameOf(request)}` }, 'explain');
  const bad = request.kept_for.includes('failed');
  const why = request.reason ?? request.kept_for.join(', ');
  const tries = request.tries > 1 ? ` after ${plural(request.tries, 'try', 'tries')}` : '';
  return el('div', { class: 'request', 'data-request': request.request_id },
    el('div', null, el('time', { datetime: request.at, title: request.at }, clock(request.at)), ' ',
      tag(bad ? '✕' : '↩', String(request.status), bad ? 'bad' : 'warn'), ' ', el('span', { class: 'target' }, nameOf(request))),
    open,
    el('div', { class: 'quiet' }, [request.upstream, why].filter(Boolean).join(' · '), `, ${duration(request.took_ms)}${tries}`));
}

/** Requests that are alike: the newest, and the others behind a button. */
class Alike {
  #open = false;
  #requests = [];

  constructor() {
    this.more = el('button', { type: 'button', class: 'more' });
    this.more.addEventListener('click', () => { this.#open = !this.#open; this.show(this.#requests); });
    this.newest = el('div');
    this.others = el('div', { class: 'others' });
    this.node = el('li', null, this.newest, this.more, this.others);
  }

  show(requests) {
    this.#requests = requests;
    const [first, ...others] = requests;
    const focused = this.newest.contains(document.activeElement);
    if (this.newest.firstChild?.dataset.request !== first.request_id) this.newest.replaceChildren(row(first));
    if (focused) this.newest.querySelector('a').focus({ preventScroll: true });
    const oldest = requests.at(-1);
    say(this.more, this.#open ? 'hide those like it' : `and ${number(others.length)} like it since ${clock(oldest.at)}`);
    set(this.more, { 'aria-expanded': String(this.#open), hidden: others.length === 0 });
    const shown = this.#open ? others.slice(0, SHOWN) : [];
    if ([...this.others.children].map((one) => one.dataset.request).join() !== shown.map((one) => one.request_id).join()) {
      this.others.replaceChildren(...shown.map(row));
    }
  }
}

function step(one) {
  return el('li', { class: `step ${one.kind}` },
    el('span', { class: 'at' }, duration(one.at_ms)),
    el('span', { class: 'sign', 'aria-hidden': 'true' }, SIGNS[one.kind] ?? '·'),
    el('span', { class: 'kind' }, one.kind), el('span', { class: 'words' }, one.text));
}

/** As one word for a shell: an id comes from whoever sent the request, and is pasted by whoever is on call. */
const quoted = (id) => (/^[\w.:-]+$/.test(id) ? id : `'${id.replaceAll("'", `'\\''`)}'`);

function explained(record) {
  const facts = [
    ['status', record.status], ['outcome', record.outcome], ['reason', record.reason], ['kept because', record.kept_for?.join(', ')],
    ['listener', record.listener], ['host', record.host], ['route', record.route], ['upstream', record.upstream], ['tries', record.tries],
    ['took', duration(record.took_ms)], ['generation', record.generation], ['at', record.at],
    ['request id', record.request_id], ['trace id', record.trace_id],
  ].filter(([, value]) => value !== null && value !== undefined && value !== '');
  return [
    el('p', { class: 'summary' }, record.summary),
    el('ol', { class: 'steps' }, ...record.steps.map(step)),
    el('dl', null, ...facts.map(([name, value]) => el('div', null, el('dt', null, name), el('dd', null, String(value))))),
    el('p', { class: 'quiet' }, 'The same in a terminal: ', el('code', null, `mamparo explain --id=${quoted(record.request_id)}`)),
  ];
}

/** The list and the dialog; `refresh` reads at once. */
export function requestList({ matches, onOpen, onClose }) {
  const list = el('ul', { class: 'rows' });
  const empty = el('p', { class: 'quiet empty' }, 'Reading…');
  const dialog = byId('explained');
  const rows = new Map();
  let requests = null;
  let trouble = null;
  let asked = null;
  let notBefore = 0;
  let reading = false;
  let again = false;
  byId('request-list').append(list, empty);
  byId('kept').addEventListener('change', show);
  // What else the address asks for stays as it is.
  list.addEventListener('click', (event) => {
    const id = event.target.closest('a') && event.target.closest('.request').dataset.request;
    if (!id || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    onOpen(id);
  });
  byId('explained-close').addEventListener('click', () => dialog.close());
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener('close', () => { asked = null; onClose(); });

  function show() {
    const all = byId('kept').checked;
    const found = (requests ?? []).filter((request) => (all || isFailed(request)) && matches(request));
    const kinds = Map.groupBy(found, kindOf);
    for (const kind of rows.keys()) if (!kinds.has(kind)) rows.delete(kind);
    arrange(list, [...kinds].slice(0, SHOWN).map(([kind, alike]) => {
      if (!rows.has(kind)) rows.set(kind, new Alike());
      rows.get(kind).show(alike);
      return rows.get(kind).node;
    }));
    set(list, { hidden: found.length === 0 });
    say(empty, found.length > 0 ? '' : trouble ?? (requests === null ? 'Reading…' : all ? 'None is kept.' : 'None has failed lately.'));
  }

  // Notes come in bursts: while one answer is waited for, all others ask once more together.
  async function refresh() {
    if (document.hidden || Date.now() < notBefore) return;
    if (reading) { again = true; return; }
    reading = true;
    await readAll();
    reading = false;
    if (!again) return;
    again = false;
    setTimeout(refresh, 250);
  }

  async function readAll() {
    try {
      requests = (await read('api/v1/explain')).requests;
      trouble = null;
    } catch (error) {
      trouble = sentence(error);
      if (error.refused) notBefore = Date.now() + REFUSED;
    }
    show();
  }

  /** Opens the dialog for that request, or closes it. */
  async function open(id) {
    if (id === asked) return;
    asked = id;
    if (id === null) { if (dialog.open) dialog.close(); return; }
    say(byId('explained-title'), 'One request');
    fill(byId('explained-body'), el('p', { class: 'quiet' }, 'Reading…'));
    if (!dialog.open) dialog.showModal();
    try {
      const record = await read(`api/v1/explain/${encodeURIComponent(id)}`);
      if (asked !== id) return;
      say(byId('explained-title'), nameOf(record));
      fill(byId('explained-body'), ...explained(record));
    } catch (error) {
      if (asked !== id) return;
      fill(byId('explained-body'), el('p', null, sentence(error)));
    }
  }

  setInterval(refresh, EVERY);
  refresh();
  return { show, refresh, open };
}
