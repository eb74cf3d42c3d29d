// The operator's page: keeps the newest reading, and shows it. It only reads; orders are given by programs.

import { byId, el, fill, say, set } from './page/dom.js';
import { Link } from './page/link.js';
import { requestList } from './page/requests.js';
import { certificates, eventList, listeners, reload, totals } from './page/rest.js';
import { signOf, troubles, wordOf } from './page/trouble.js';
import { upstreamList } from './page/upstreams.js';
import { clock, duration, lasts, number } from './page/words.js';

const SPAN = 3000; // ms over which a rate is taken

const now = { status: null, history: null, samples: [] };
const asked = { upstream: null, request: null };
let newPoint = true;
let charts = null;

const filter = byId('filter');
const list = upstreamList();
const events = eventList();
const requests = requestList({
  matches: (request) => asked.upstream === null || request.upstream === asked.upstream,
  onOpen: (request) => go({ request }),
  onClose: () => go({ request: null }),
});

/** What the address says is asked for. */
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const before = asked.upstream;
  asked.upstream = wanted.get('upstream');
  asked.request = wanted.get('request');
  requests.open(asked.request);
  requests.show();
  show();
  if (asked.upstream !== null && asked.upstream !== before) byId('upstreams').scrollIntoView({ block: 'nearest' });
}

/** Changes the address, and what is shown with it. */
function go(change) {
  const wanted = { ...asked, ...change };
  const parts = Object.entries(wanted).filter(([, value]) => value !== null).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  const next = parts.length > 0 ? `#${parts.join('&')}` : location.pathname + location.search;
  if (wanted.upstream !== asked.upstream || wanted.request !== asked.request) history.pushState(null, '', next);
  readAddress();
}

/** Every word of the filter stands in the upstream's name, in its addresses or in what is said of it. */
function matches(upstream) {
  if (asked.upstream !== null && upstream.name !== asked.upstream) return false;
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const { judgement, endpoints } = upstream;
  const states = endpoints.flatMap(({ address, state, health, forced }) => [address, state, health?.state, forced && `forced ${forced}`]);
  const said = [judgement.word, ...judgement.also, judgement.severity, upstream.circuit, upstream.critical && 'critical', ...states];
  const hay = [upstream.name, ...said.filter(Boolean).map(wordOf)].join(' ').toLowerCase();
  return words.every((word) => hay.includes(word));
}

/** Requests per second, by upstream and in all (''), over the last readings. */
function rates(status) {
  const at = Date.parse(status.at);
  const counts = new Map(status.upstreams.map((upstream) => [upstream.name, upstream.totals.requests]));
  counts.set('', status.totals.requests);
  now.samples.push({ at, counts });
  while (now.samples.length > 2 && now.samples[1].at <= at - SPAN) now.samples.shift();
  const [first] = now.samples;
  const seconds = (at - first.at) / 1000;
  const found = new Map();
  // Fewer than before: it is another process.
  if (counts.get('') < first.counts.get('')) now.samples = [{ at, counts }];
  else if (seconds >= 0.5) {
    for (const [name, count] of counts) if (first.counts.has(name)) found.set(name, Math.max(0, count - first.counts.get(name)) / seconds);
  }
  return found;
}

function header(status) {
  const p = status.process;
  say(byId('service'), p.service);
  const [sign, word, shade] = p.draining ? ['▼', 'draining', 'warn'] : p.ready ? ['●', 'ready', 'good'] : ['▲', 'starting', 'warn'];
  const state = byId('readiness');
  set(state, { class: `tag ${shade}` });
  fill(state, el('span', { class: 'sign', 'aria-hidden': 'true' }, sign), word);
  const last = status.last_reload;
  const reloaded = last ? `, reload ${last.result} at ${clock(last.at)}` : '';
  say(byId('process'), `mamparo ${p.version} · generation ${p.generation}${reloaded} · up ${duration(p.uptime_ms)}`);
}

// Where the page has more of it.
const PLACES = { config_refused: '#reload', certificate_expired: '#certificates', certificate_unused: '#certificates', certificate_expires: '#certificates' };

function trouble(one, status) {
  const name = one.upstream ? [el('a', { href: `#upstream=${encodeURIComponent(one.upstream)}` }, one.upstream), ' '] : [];
  const what = PLACES[one.word] ? el('a', { href: PLACES[one.word] }, one.what) : one.what;
  const since = one.since ? el('span', { class: 'since' }, ` since ${clock(one.since)} (${lasts(one.since, status)})`) : null;
  const also = one.also.length > 0 ? el('span', { class: 'since' }, `, also: ${one.also.map(wordOf).join(', ')}`) : null;
  const [sign, , shade] = signOf(one);
  return el('li', { class: shade },
    el('span', { class: `sign ${shade}`, 'aria-hidden': 'true' }, sign),
    el('span', { class: 'what' }, ...name, what, since, also, el('span', { class: 'unseen' }, '. ')),
    el('span', { class: 'why' }, one.why), el('span', { class: 'doing' }, one.next));
}

const WORST = 8;

function overview(status) {
  const found = troubles(status);
  const { severity, text, errors } = status.verdict;
  const [, , shade] = signOf({ severity, word: severity });
  set(byId('verdict'), { class: `verdict ${shade}` });
  say(byId('verdict-title'), text);
  const more = found.length > WORST ? el('li', { class: 'rest quiet' }, `and ${number(found.length - WORST)} more, in the list below`) : null;
  fill(byId('troubles'), ...found.slice(0, WORST).map((one) => trouble(one, status)), more);
  document.title = `${errors > 0 ? `(${errors}) ` : ''}${status.process.service} – mamparo`;
}

function show() {
  const { status, history } = now;
  if (status === null) return;
  header(status);
  overview(status);
  charts ??= totals(history?.points ?? 60);
  charts.show({ status, rate: now.rates.get('') ?? null, history, newPoint });
  list.show({ status, rates: now.rates, history, newPoint, matches, focus: asked.upstream });
  events.show(status.events, (event) => asked.upstream === null || event.upstream === asked.upstream);
  reload(status);
  listeners(status);
  certificates(status);
  const narrowed = asked.upstream !== null || filter.value !== '';
  set(byId('all'), { hidden: !narrowed });
  newPoint = false;
}

const STATES = {
  live: () => 'live',
  polling: () => 'read every 2 s: every stream is in use',
  lost: (since, why) => `reconnecting since ${clock(since)} (${duration(Math.floor((Date.now() - since) / 1000) * 1000 || 1000)}): ${why}${now.status ? `. What you see is from ${clock(now.status.at)}` : ''}`,
};

new Link({
  status(status) {
    now.status = status;
    now.rates = rates(status);
    if (!document.hidden) show();
  },
  history(history) {
    if (!history) return;
    newPoint ||= history.until !== now.history?.until;
    now.history = history;
  },
  note(note) {
    // Somebody who cannot see the list hears what moves in it.
    say(byId('said'), [[note.upstream, note.endpoint].filter(Boolean).join(' '), note.text].filter(Boolean).join(': '));
    requests.refresh();
  },
  state(state, since, why) {
    document.body.className = state;
    say(byId('link-text'), STATES[state](since, why));
  },
});

addEventListener('hashchange', readAddress);
addEventListener('popstate', readAddress);
document.addEventListener('visibilitychange', () => { if (!document.hidden) { requests.refresh(); show(); } });
filter.addEventListener('input', show);
byId('all').addEventListener('click', (event) => { event.preventDefault(); clear(); filter.focus(); });

function clear() {
  filter.value = '';
  go({ upstream: null, request: null });
}

document.addEventListener('keydown', (event) => {
  const isTyping = event.target.matches?.('input:not([type=checkbox]), textarea, select');
  if (event.key === '/' && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    filter.focus();
    filter.select();
  } else if (event.key === 'Escape' && !byId('explained').open && (filter.value !== '' || asked.upstream !== null)) {
    clear();
  }
});

readAddress();
