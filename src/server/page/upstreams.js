// The list of upstreams, worst first: for each its breakers, budget, bulkhead, successes, latency and pool.

import { arrange, byId, el, fill, say, set, tag } from './dom.js';
import { chart, draw, gauge } from './charts.js';
import { isSick, reasonOf, signOf } from './trouble.js';
import { BREAKERS, NOTHING, duration, number, percent, plural, short } from './words.js';

const SHOWN = 100; // upstreams at a time; more are a matter for the filter
const FEW = 6; // endpoints that are shown where all are well
const COLUMNS = ['upstream', 'requests', 'success', 'latency', 'retry budget', 'bulkhead', 'connections'];

/** Everything on the page that belongs to one upstream. */
class Entry {
  #open = false;
  #last = null;

  constructor(name, slots) {
    this.name = name;
    this.slots = slots;
    this.link = el('a', { href: `#upstream=${encodeURIComponent(name)}` }, name);
    this.state = el('span', { class: 'states' });
    this.rate = el('b');
    this.total = el('span', { class: 'quiet' });
    this.allowed = el('span', { class: 'quiet' });
    this.share = el('b');
    this.failed = el('span', { class: 'quiet' });
    this.drawing = chart(slots, 'latency');
    this.latency = el('span', { class: 'quiet' });
    this.budget = gauge();
    this.seats = gauge();
    this.pool = gauge();
    const cells = [
      [this.rate, this.total, this.allowed], [this.share, this.failed], [this.drawing, this.latency],
      [this.budget.node], [this.seats.node], [this.pool.node],
    ].map((children, index) => el('td', { role: 'cell', 'data-name': COLUMNS[index + 1] }, ...children));
    const title = el('th', { role: 'rowheader', scope: 'rowgroup' }, this.link, this.state);
    this.main = el('tr', { role: 'row', class: 'upstream' }, title, ...cells);
    this.node = el('tbody', { role: 'rowgroup', 'data-upstream': name, 'aria-label': name }, this.main);
    this.more = el('button', { type: 'button', class: 'more' });
    this.more.addEventListener('click', () => { this.#open = !this.#open; this.#endpoints(...this.#last); });
    this.moreRow = el('tr', { role: 'row', class: 'endpoint' }, el('td', { role: 'cell', colspan: 7 }, this.more));
    this.rows = new Map();
  }

  show(upstream, rate, series, newPoint, status, whole) {
    const minute = upstream.last_minute ?? NOTHING;
    const [, , shade] = signOf(upstream.judgement);
    set(this.node, { class: shade });
    fill(this.state, ...states(upstream));
    this.#traffic(upstream, minute, rate);
    if (newPoint || !this.drawing.hasChildNodes()) this.#latency(series, minute, series ? 'no requests' : status.last_minute ? 'not kept: others are busier' : 'not yet known');
    this.#limits(upstream);
    this.#last = [upstream, status, whole];
    this.#endpoints(upstream, status, whole);
  }

  #traffic(upstream, minute, rate) {
    say(this.rate, rate === null ? '–' : `${short(rate)}/s`);
    say(this.total, `${short(upstream.totals.requests)} in all`);
    const allowed = upstream.rate_limit;
    say(this.allowed, allowed ? `at most ${short(allowed.per_second)}/s` : '');
    set(this.allowed, { class: allowed && allowed.tokens < 1 ? 'warn' : 'quiet' });
    const none = minute.requests === 0;
    say(this.share, none ? '–' : percent(1 - minute.failures / minute.requests));
    set(this.share, { class: !none && minute.failures / minute.requests > 0.05 ? 'bad' : null });
    const said = none ? 'no requests' : [
      minute.failures > 0 ? `${short(minute.failures)} failed` : '',
      minute.fallbacks > 0 ? `${short(minute.fallbacks)} by fallback` : '',
      minute.retries > 0 ? `${short(minute.retries)} retried` : '',
    ].filter(Boolean).join(', ') || 'none failed';
    say(this.failed, said);
  }

  #latency(series, minute, missing) {
    const has = minute.p50_ms !== null;
    const now = has ? [`p50 ${duration(minute.p50_ms)}`, `p99 ${duration(minute.p99_ms)}`] : [missing];
    fill(this.latency, ...now.map((words) => el('span', { class: has ? 'part' : null }, words)));
    draw(this.drawing, this.slots, [
      { values: series?.p99_ms ?? [], as: 'line', shade: 'p99' },
      { values: series?.p50_ms ?? [], as: 'line', shade: 'p50' },
    ], `Latency of ${this.name} over five minutes`);
  }

  #limits(upstream) {
    const of = (limit) => (limit === null ? '' : `of ${number(Math.round(limit))}`);
    const r = upstream.retry_budget;
    this.budget.show(r ? r.tokens.toFixed(1) : '–', r ? of(r.limit) : '', r?.tokens, r?.limit ?? 0, true);
    const b = upstream.bulkhead;
    const queue = b?.queued > 0 ? `, ${number(b.queued)} wait` : '';
    this.seats.show(b ? number(b.in_flight) : '–', b ? `${of(b.limit)}${queue}` : '', b?.in_flight, b?.limit ?? 0, false);
    const c = upstream.connections;
    this.pool.show(`${number(c.active)} busy`, `${number(c.idle)} idle${c.limit === null ? '' : `, at most ${number(c.limit)}`}`, c.active + c.idle, c.limit ?? 0, false);
  }

  #endpoints(upstream, status, whole) {
    const all = upstream.endpoints;
    const troubled = all.filter((endpoint) => endpoint.state !== 'closed' || endpoint.reason || endpoint.forced || endpoint.draining || isSick(endpoint));
    const few = all.length <= FEW || this.#open || whole;
    const shown = few ? all : troubled.slice(0, 2 * FEW);
    const known = new Set(shown.map((endpoint) => endpoint.address));
    for (const address of this.rows.keys()) if (!known.has(address)) this.rows.delete(address);
    const rows = shown.map((endpoint) => {
      const row = this.rows.get(endpoint.address) ?? endpointRow();
      this.rows.set(endpoint.address, row);
      row.show(endpoint, status);
      return row.node;
    });
    const hidden = all.length - shown.length;
    const canHide = all.length > FEW && !whole;
    say(this.more, this.#open ? 'show fewer endpoints' : `and ${plural(hidden, 'endpoint', 'endpoints')} more${hidden === all.length - troubled.length ? ', all closed' : ''}`);
    set(this.more, { 'aria-expanded': String(this.#open) });
    const sources = (upstream.sources ?? []).filter((source) => whole || source.problem);
    if (sources.length > 0) {
      this.sources ??= el('tr', { role: 'row', class: 'endpoint' }, el('td', { role: 'cell', colspan: 7 }));
      fill(this.sources.firstChild, ...sources.map((source) => el('div', null, sourceOf(source))));
      rows.push(this.sources);
    }
    if (canHide && (hidden > 0 || this.#open)) rows.push(this.moreRow);
    if (all.length === 0 && sources.length === 0) rows.push(this.none ??= el('tr', { role: 'row', class: 'endpoint' }, el('td', { role: 'cell', colspan: 7 }, 'No endpoint: its names do not resolve, or discovery finds none.')));
    arrange(this.node, [this.main, ...rows]);
  }
}

function states({ judgement, critical }) {
  return [
    tag(...signOf(judgement)),
    ...judgement.also.map((word) => tag(...signOf({ word, severity: word === 'failing' ? 'error' : 'warning' }))),
    critical ? tag('!', 'critical', 'quiet') : null,
  ];
}

/** What an endpoint's breaker and health checks say. */
function conditions(endpoint) {
  const { state, window, forced, draining, health } = endpoint;
  const tags = [];
  if (window !== null || state !== 'closed') tags.push(tag(...BREAKERS[state]));
  if (isSick(endpoint)) tags.push(tag('✕', 'unhealthy', 'bad'));
  else if (health) tags.push(tag(health.state === 'healthy' ? '●' : '○', health.state, health.state === 'healthy' ? 'good' : 'quiet'));
  if (tags.length === 0) tags.push(tag('○', 'no breaker', 'quiet'));
  if (forced) tags.push(tag('⚑', `forced ${forced}`, 'warn'));
  if (draining) tags.push(tag('▼', 'draining', 'warn'));
  return tags;
}

function endpointRow() {
  const address = el('th', { role: 'rowheader', scope: 'row', class: 'address' });
  const state = el('span');
  const why = el('span', { class: 'why' });
  const cell = (name, span) => el('td', { role: 'cell', 'data-name': name, colspan: span });
  const breaker = cell('breaker', 3);
  breaker.append(state, ' ', why);
  const seen = cell('window', 2);
  const load = cell('load', 1);
  const node = el('tr', { role: 'row', class: 'endpoint' }, address, breaker, seen, load);
  return {
    node,
    show(endpoint, status) {
      say(address, endpoint.address);
      fill(state, ...conditions(endpoint));
      say(why, reasonOf(endpoint, status));
      say(seen, windowOf(endpoint.window));
      say(load, [endpoint.in_flight > 0 ? `${number(endpoint.in_flight)} in flight` : '', weightOf(endpoint)].filter(Boolean).join(', '));
      set(node, { 'data-state': endpoint.state });
    },
  };
}

/** Where endpoints are found, and how well. */
function sourceOf(source) {
  const found = `${source.name} stands for ${plural(source.addresses, 'address', 'addresses')}`;
  const answered = source.age_ms === null ? 'never answered' : `answered ${duration(source.age_ms)} ago`;
  const next = source.next_ms === null ? '' : `, asked again in ${duration(source.next_ms)}`;
  return `${found}, ${answered}${next}${source.problem ? `: ${source.problem}` : ''}`;
}

function windowOf(w) {
  if (w === null) return '';
  if (w.total === 0) return 'no calls';
  const slow = w.slow > 0 ? `, ${number(w.slow)} slow` : '';
  return `${number(w.failures)} of ${number(w.total)} failed${slow}`;
}

function weightOf(endpoint) {
  const weight = endpoint.weight === 1 ? '' : `weight ${endpoint.weight}`;
  const ramp = endpoint.share > 0 && endpoint.share < 1 ? `warming up, ${percent(endpoint.share)}` : '';
  return [weight, ramp].filter(Boolean).join(' · ');
}

/** The list; `show` is called with each reading. */
export function upstreamList() {
  const holder = byId('upstream-list');
  const head = el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' },
    ...COLUMNS.map((name) => el('th', { role: 'columnheader', scope: 'col' }, name))));
  const list = el('table', { role: 'table', class: 'upstreams', 'aria-labelledby': 'upstreams-title' }, head);
  const empty = el('p', { class: 'quiet empty' });
  const entries = new Map();
  holder.append(list, empty);
  return {
    show({ status, rates, history, newPoint, matches, focus }) {
      const found = status.upstreams.filter(matches);
      found.sort((one, other) => one.judgement.rank - other.judgement.rank || one.name.localeCompare(other.name));
      const shown = found.slice(0, SHOWN);
      const names = new Set(status.upstreams.map((upstream) => upstream.name));
      for (const name of entries.keys()) if (!names.has(name)) entries.delete(name);
      const nodes = shown.map((upstream) => {
        const { name } = upstream;
        const isNew = !entries.has(name);
        if (isNew) entries.set(name, new Entry(name, history?.points ?? 60));
        const entry = entries.get(name);
        entry.show(upstream, rates.get(name) ?? null, history?.upstreams[name], newPoint || isNew || entry.away, status, focus === name);
        entry.away = false;
        return entry.node;
      });
      for (const [name, entry] of entries) if (!shown.some((upstream) => upstream.name === name)) entry.away = true;
      arrange(list, [head, ...nodes]);
      set(list, { hidden: nodes.length === 0 });
      const all = status.upstreams.length;
      say(empty, nodes.length > 0 ? '' : all === 0 ? 'No upstream is configured.' : 'No upstream matches. Escape shows all.');
      const cut = found.length > SHOWN ? `, the worst ${SHOWN} are shown` : '';
      say(byId('found'), found.length === all ? `${plural(all, 'upstream', 'upstreams')}${cut}` : `${number(found.length)} of ${number(all)}${cut}`);
    },
  };
}
