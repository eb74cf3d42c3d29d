// What stands around the upstreams: totals, events, the last reload, listeners, certificates.

import { arrange, byId, el, fill, table, tag } from './dom.js';
import { figure } from './charts.js';
import { daysLeft, isSoon, userOf } from './trouble.js';
import { NOTHING, clock, duration, number, percent, plural, short } from './words.js';

const EVENTS = 50;

/** The charts over everything. */
export function totals(slots) {
  const names = ['requests', 'failed', 'latency', 'retries and fallbacks'];
  const [requests, failed, latency, help] = names.map((name) => figure(name, slots));
  byId('totals').append(requests.node, failed.node, latency.node, help.node);
  return {
    show({ status, rate, history, newPoint }) {
      const minute = status.last_minute ?? NOTHING;
      const series = history?.total ?? null;
      const per = (values) => values.map((value) => value / (history.every_ms / 1000));
      const t = status.totals;
      const layers = (make) => (newPoint && series ? make() : null);
      const peak = series ? Math.max(0, ...per(series.requests)) : 0;
      requests.show(rate === null ? '–' : `${short(rate)}/s`, `${number(t.requests)} since the start`,
        layers(() => [{ values: per(series.requests), as: 'bars', shade: 'all' }]),
        `Requests per second over five minutes, at most ${short(peak)}`);
      const share = minute.requests > 0 ? minute.failures / minute.requests : null;
      failed.show(share === null ? '–' : percent(share), `${number(minute.failures)} in the last minute`,
        layers(() => [{ values: per(series.failures), as: 'bars', shade: 'bad' }]),
        `Failed requests over five minutes, ${number(minute.failures)} in the last minute`);
      latency.show(minute.p99_ms === null ? '–' : duration(minute.p99_ms), minute.p50_ms === null ? 'no requests' : `p99; half within ${duration(minute.p50_ms)}`,
        layers(() => [{ values: series.p99_ms, as: 'line', shade: 'p99' }, { values: series.p50_ms, as: 'line', shade: 'p50' }]),
        'Latency over five minutes, the 99th and the 50th percentile');
      help.show(`${short(minute.retries)} · ${short(minute.fallbacks)}`, 'in the last minute',
        layers(() => [{ values: per(series.retries), as: 'line', shade: 'retry' }, { values: per(series.fallbacks), as: 'line', shade: 'fallback' }]),
        `Retries and fallbacks over five minutes: ${number(minute.retries)} and ${number(minute.fallbacks)} in the last minute`);
    },
  };
}

const SIGNS = [
  [/^breaker opened/, '✕', 'bad'], [/^breaker half-open/, '◐', 'warn'], [/^breaker closed/, '●', 'good'],
  [/unhealthy/, '✕', 'bad'], [/healthy/, '●', 'good'], [/operator/, '⚑', 'warn'], [/refused|cannot|problem/, '✕', 'bad'],
];

function eventRow(event) {
  const [, sign, shade] = SIGNS.find(([pattern]) => pattern.test(event.text)) ?? [null, '·', 'quiet'];
  const where = event.upstream ? [el('a', { href: `#upstream=${encodeURIComponent(event.upstream)}` }, event.upstream), ' '] : [];
  return el('li', null,
    el('div', null, el('time', { datetime: event.at, title: event.at }, clock(event.at)), ' ',
      el('span', { class: `sign ${shade}`, 'aria-hidden': 'true' }, sign), ' ', ...where,
      event.endpoint && !event.text.startsWith(event.endpoint) ? el('span', { class: 'address' }, event.endpoint) : event.upstream ? null : el('span', { class: 'quiet' }, event.kind.replace('_', ' '))),
    el('div', { class: 'words' }, event.text));
}

/** The events, newest first. */
export function eventList() {
  const list = el('ol', { class: 'rows' });
  const empty = el('p', { class: 'quiet empty' });
  const rows = new Map();
  byId('event-list').append(list, empty);
  return {
    show(events, matches) {
      const found = events.filter(matches).slice(-EVENTS).reverse();
      const keys = found.map((event) => `${event.number} ${event.at}`);
      for (const key of rows.keys()) if (!keys.includes(key)) rows.delete(key);
      arrange(list, found.map((event, index) => {
        const key = keys[index];
        if (!rows.has(key)) rows.set(key, eventRow(event));
        return rows.get(key);
      }));
      fill(empty, found.length > 0 ? '' : events.length > 0 ? 'None of what is shown.' : 'Nothing has happened yet.');
    },
  };
}

const lines = (all) => el('ul', { class: 'lines' }, ...all.map((one) => el('li', null, one)));
const RESULTS = { applied: ['●', 'good'], unchanged: ['●', 'quiet'], refused: ['✕', 'bad'] };

export function reload(status) {
  const last = status.last_reload;
  if (!last) return fill(byId('reload-facts'), el('p', { class: 'quiet' }, 'None since the start.'));
  const [sign, shade] = RESULTS[last.result];
  return fill(byId('reload-facts'),
    el('p', null, tag(sign, last.result, shade), ' ', el('time', { datetime: last.at }, clock(last.at)), `; generation ${last.generation} runs.`),
    last.problems.length > 0 ? lines(last.problems) : null, last.changes.length > 0 ? lines(last.changes) : null);
}

export function listeners(status) {
  const rows = status.listeners.map((listener) => [
    listener.name, listener.role, el('span', { class: 'address' }, listener.address), number(listener.connections),
    listener.draining ? tag('▼', 'draining', 'warn') : tag('●', 'accepting', 'good'),
  ]);
  const workers = status.process.workers.map((worker) => `worker ${worker.id}: ${plural(worker.connections, 'connection', 'connections')}, ${plural(worker.tasks, 'task', 'tasks')}`);
  const kept = `${number(status.replay.bytes_used)} of ${number(status.replay.bytes_limit)} bytes kept for another try`;
  fill(byId('listener-list'),
    rows.length > 0 ? table(['name', 'role', 'address', 'connections', 'state'], rows, 'Listeners') : el('p', { class: 'quiet' }, 'None.'),
    el('p', { class: 'quiet' }, [...workers, kept].join(' · ')));
}

export function certificates(status) {
  const rows = status.certificates.map((certificate) => {
    const days = daysLeft(certificate, status);
    const left = days < 0 ? tag('✕', 'expired', 'bad') : tag(isSoon(days) ? '▲' : '●', plural(days, 'day', 'days'), isSoon(days) ? 'warn' : 'good');
    return [certificate.file, userOf(certificate), left, certificate.expires_at.slice(0, 10), certificate.problem ?? 'in use'];
  });
  fill(byId('certificate-list'), rows.length > 0
    ? table(['file', 'used by', 'left', 'expires', 'state'], rows, 'Certificates')
    : el('p', { class: 'quiet' }, 'None: nothing here speaks TLS with a certificate of its own.'));
}
