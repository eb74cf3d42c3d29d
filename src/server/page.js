// The status page: reads /api/v1/status once a second and shows it. Whatever comes from there is put in
// as text, never as markup.
'use strict';

const EVERY = 1000; // ms between two readings
const PATIENCE = 4000; // ms until a reading that does not answer is given up

const byId = (id) => document.getElementById(id);

/** An element with its class, attributes (never markup) and children (elements or text). */
function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const number = (value) => Number(value).toLocaleString('en');
const share = (value) => `${Math.round(value * 100)} %`;

function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${(ms / 1000).toFixed(s < 10 ? 1 : 0)} s`;
  const parts = [[Math.floor(s / 86400), 'd'], [Math.floor(s / 3600) % 24, 'h'], [Math.floor(s / 60) % 60, 'min'], [s % 60, 's']];
  const first = parts.findIndex(([value]) => value > 0);
  return parts.slice(first, first + 2).map(([value, unit]) => `${value} ${unit}`).join(' ');
}

function when(at) {
  const date = new Date(at);
  const node = el('time', '', Number.isNaN(date.getTime()) ? String(at) : date.toLocaleTimeString([], { hour12: false }));
  node.title = String(at);
  return node;
}

const SHADES = {
  closed: 'good', open: 'bad', half_open: 'warn', applied: 'good', unchanged: 'good', refused: 'bad',
};
const pill = (word, shade) => el('span', `pill ${shade ?? SHADES[word] ?? ''}`, String(word).replace('_', '-'));

function fact(name, value, used, limit, full) {
  const node = el('div', 'fact', el('span', '', name), el('b', '', value));
  if (limit > 0) {
    const meter = document.createElement('meter');
    meter.max = limit;
    meter.value = Math.min(used, limit);
    // A full bulkhead is bad, an empty budget is.
    if (full === 'bad') { meter.high = limit * 0.8; meter.optimum = 0; } else { meter.low = limit * 0.2; meter.optimum = limit; }
    meter.title = `${value} (${share(used / limit)})`;
    node.append(meter);
  }
  return node;
}

/** A table whose cells carry their column's name, so that a phone can stack them. */
function table(columns, rows) {
  const head = el('thead', '', el('tr', '', ...columns.map((name) => el('th', '', name))));
  const body = el('tbody', '', ...rows.map((cells) => el('tr', '', ...cells.map((cell, index) => {
    const td = el('td', columns[index] === 'endpoint' || columns[index] === 'address' ? 'address' : '', cell);
    td.dataset.name = columns[index];
    return td;
  }))));
  return el('div', 'wide', el('table', 'stack', head, body));
}

function endpointRow(endpoint) {
  const w = endpoint.window; // null: this upstream has no breaker
  const state = el('span', '', w === null ? pill('off', 'quiet') : pill(endpoint.state));
  if (endpoint.forced) state.append(' ', pill(`forced ${endpoint.forced}`, 'warn'));
  if (endpoint.draining) state.append(' ', pill('draining', 'warn'));
  let why = endpoint.reason ?? '';
  if (endpoint.next_probe_ms !== null) why += `${why ? '; ' : ''}next probe in ${duration(endpoint.next_probe_ms)}`;
  if (endpoint.opened_in_a_row > 1) why += `; opened ${endpoint.opened_in_a_row} times in a row`;
  let recent = w === null ? '–' : `${number(w.failures)} of ${number(w.total)} failed`;
  if (w?.slow > 0) recent += `, ${number(w.slow)} slow`;
  if (w?.consecutive_failures > 0) recent += `, ${number(w.consecutive_failures)} in a row`;
  const weight = endpoint.share < 1 ? `${endpoint.weight} × ${share(endpoint.share)}` : String(endpoint.weight);
  return [endpoint.address, state, why || '–', number(endpoint.in_flight), recent, weight];
}

function facts(upstream, rates) {
  const t = upstream.totals;
  const list = [fact('requests', `${number(t.requests)}${rates ? `, ${rates}/s` : ''}`)];
  list.push(fact('failures · retries · fallbacks', `${number(t.failures)} · ${number(t.retries)} · ${number(t.fallbacks)}`));
  const b = upstream.bulkhead;
  if (b) {
    list.push(fact('bulkhead: in flight', b.limit === null ? number(b.in_flight) : `${number(b.in_flight)} of ${number(b.limit)}`, b.in_flight, b.limit, 'bad'));
    if (b.max_queue > 0) list.push(fact('bulkhead: queued', `${number(b.queued)} of ${number(b.max_queue)}`, b.queued, b.max_queue, 'bad'));
  }
  const c = upstream.connections;
  const of = c.limit === null ? '' : ` of ${number(c.limit)}`;
  list.push(fact('connections: active · idle', `${number(c.active)} · ${number(c.idle)}${of}`, c.active + c.idle, c.limit, 'bad'));
  const r = upstream.retry_budget;
  if (r) list.push(fact('retry budget: tokens', `${r.tokens.toFixed(1)}${r.limit === null ? '' : ` of ${r.limit.toFixed(1)}`}`, r.tokens, r.limit, 'good'));
  const l = upstream.rate_limit;
  if (l) list.push(fact('rate limit: tokens', `${l.tokens.toFixed(1)} of ${number(l.burst)}, ${number(l.per_second)}/s`, l.tokens, l.burst, 'good'));
  return el('div', 'facts', ...list);
}

function upstreamCard(upstream, rates) {
  const hasBreaker = upstream.endpoints.some((endpoint) => endpoint.window !== null);
  const title = el('h2', '', upstream.name, ...(hasBreaker ? [' ', pill(upstream.circuit)] : []));
  if (upstream.critical) title.append(' ', pill('critical', 'quiet'));
  const rows = upstream.endpoints.map(endpointRow);
  const endpoints = rows.length > 0
    ? table(['endpoint', 'breaker', 'why', 'in flight', 'window', 'weight'], rows)
    : el('p', 'bad', 'no endpoint: its names do not resolve');
  return el('div', 'card', title, facts(upstream, rates), endpoints);
}

function upstreams(status, before) {
  const seconds = before ? (Date.parse(status.at) - Date.parse(before.at)) / 1000 : 0;
  return status.upstreams.map((upstream) => {
    const then = before?.upstreams.find((other) => other.name === upstream.name);
    const more = then ? upstream.totals.requests - then.totals.requests : -1;
    return upstreamCard(upstream, seconds > 0 && more >= 0 ? number(Math.round(more / seconds)) : null);
  });
}

function listeners(status) {
  const rows = status.listeners.map((listener) => [
    listener.name, listener.role, listener.address, number(listener.connections),
    listener.draining ? pill('draining', 'warn') : pill('accepting', 'good'),
  ]);
  const workers = status.process.workers.map((worker) => `worker ${worker.id}: ${number(worker.connections)} connections, ${number(worker.tasks)} tasks`);
  const kept = `${number(status.replay.bytes_used)} of ${number(status.replay.bytes_limit)} bytes`;
  return [el('div', 'card', el('h2', '', 'Listeners'),
    table(['name', 'role', 'address', 'connections', 'state'], rows),
    el('p', 'quiet', workers.join(' · ')),
    el('p', 'quiet', `requests kept for another try: ${kept}`))];
}

const DAY = 86400e3;
const SOON = 14; // days, as for the warning of `mamparo check`

/** Whole days until a certificate expires; below 0: it has expired. */
const daysLeft = (certificate, status) => Math.floor((Date.parse(certificate.expires_at) - Date.parse(status.at)) / DAY);
const daysOf = (days) => `${number(days)} ${days === 1 ? 'day' : 'days'}`;
const userOf = (certificate) => (certificate.listener !== null ? `listener ${certificate.listener}` : `upstream ${certificate.upstream}`);

function left(certificate, status) {
  const days = daysLeft(certificate, status);
  if (Number.isNaN(days)) return '–';
  if (days < 0) return pill('expired', 'bad');
  return pill(daysOf(days), days < SOON ? 'warn' : 'good');
}

function certificates(status) {
  if (status.certificates.length === 0) return [];
  const rows = status.certificates.map((certificate) => [
    certificate.file, userOf(certificate), left(certificate, status), certificate.expires_at.slice(0, 10),
    certificate.problem === null ? 'the files are in use' : el('span', 'bad', certificate.problem),
  ]);
  return [el('div', 'card', el('h2', '', 'Certificates'), table(['file', 'used by', 'left', 'expires', 'state'], rows))];
}

const list = (lines) => el('ul', '', ...lines.map((line) => el('li', '', line)));

function reload(status) {
  const last = status.last_reload;
  if (!last) return [el('div', 'card', el('h2', '', 'Last reload'), el('p', 'quiet', 'none since the start'))];
  const card = el('div', 'card',
    el('h2', '', 'Last reload ', pill(last.result)),
    el('p', '', when(last.at), `, generation ${last.generation} runs`));
  if (last.problems.length > 0) card.append(list(last.problems));
  if (last.changes.length > 0) card.append(list(last.changes));
  return [card];
}

function events(status) {
  const rows = status.events.slice(-50).reverse().map((event) => [
    when(event.at), [event.upstream, event.endpoint].filter(Boolean).join(' ') || event.kind, event.text,
  ]);
  const body = rows.length > 0 ? table(['time', 'where', 'what'], rows) : el('p', 'quiet', 'none yet');
  return [el('div', 'card', el('h2', '', 'Events'), body)];
}

function alerts(status) {
  const found = [];
  if (status.process.draining) found.push(el('p', 'alert warn', 'Draining: new work is turned away.'));
  for (const upstream of status.upstreams.filter((upstream) => upstream.circuit === 'open')) {
    const why = upstream.endpoints.map((endpoint) => endpoint.reason).find(Boolean) ?? 'open';
    found.push(el('p', 'alert', `The circuit of '${upstream.name}' is open: ${why}.`));
  }
  for (const certificate of status.certificates) {
    const days = daysLeft(certificate, status);
    if (days < 0) found.push(el('p', 'alert', `The certificate in ${certificate.file} (${userOf(certificate)}) has expired.`));
    else if (days < SOON) found.push(el('p', 'alert warn', `The certificate in ${certificate.file} (${userOf(certificate)}) expires ${days < 1 ? 'within a day' : `in ${daysOf(days)}`}.`));
  }
  const unused = new Map(status.certificates.filter((one) => one.problem !== null).map((one) => [userOf(one), one.problem]));
  for (const [user, problem] of unused) found.push(el('p', 'alert', `The newer certificates of ${user} are not in use: ${problem}`));
  if (status.last_reload?.result === 'refused') {
    const count = status.last_reload.problems.length;
    found.push(el('p', 'alert', `The last reload was refused (${count} ${count === 1 ? 'problem' : 'problems'}); generation ${status.last_reload.generation} still runs.`));
  }
  return found;
}

const shown = {};

/** Puts new content in only where something has changed, so that a selection outlives a reading. */
function put(id, content) {
  const holder = document.createElement('div');
  holder.append(...content);
  if (shown[id] === holder.innerHTML) return;
  shown[id] = holder.innerHTML;
  byId(id).replaceChildren(...holder.childNodes);
}

let before = null;

function show(status) {
  const p = status.process;
  document.body.classList.remove('stale');
  document.title = `${p.service} – mamparo`;
  put('service', [p.service]);
  const open = status.upstreams.some((upstream) => upstream.circuit === 'open');
  put('state', [p.draining ? 'draining' : p.ready ? 'ready' : 'starting']);
  byId('state').className = `pill ${p.draining || !p.ready || open ? 'warn' : 'good'}`;
  const t = status.totals;
  put('process', [`mamparo ${p.version}, up ${duration(p.uptime_ms)}, generation ${p.generation} · ${number(t.requests)} requests, ${number(t.failures)} failed, ${number(t.retries)} retries, ${number(t.fallbacks)} fallbacks`]);
  put('alerts', alerts(status));
  put('upstreams', upstreams(status, before));
  put('listeners', listeners(status));
  put('certificates', certificates(status));
  put('reload', reload(status));
  put('events', events(status));
  put('read', ['read ', when(status.at)]);
  before = status;
}

function unreachable(error) {
  document.body.classList.add('stale');
  put('state', ['no answer']);
  byId('state').className = 'pill bad';
  const last = before ? [' What you see is from ', when(before.at), '.'] : [];
  put('alerts', [el('p', 'alert', `The status does not answer (${error.message}).`, ...last)]);
}

async function read() {
  try {
    const answer = await fetch('api/v1/status', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
  } catch (error) {
    unreachable(error);
  }
  setTimeout(read, document.hidden ? EVERY * 5 : EVERY);
}

read();
