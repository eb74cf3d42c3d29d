// What is broken, since when, why, and what the proxy does about it: sentences made from the status alone.

import { clock, duration, lasts, number, percent, plural } from './words.js';

const DAY = 86400e3;
const SOON = 14; // days, as `mamparo check` warns
const FAILING = 0.95; // share of successes below which an upstream is looked at
const ENOUGH = 10; // requests in a minute that say something
const SOME = 3; // requests that say something where more than half of them failed

/** Whether too few of the requests of the last minute succeeded. */
function isFailing({ requests, failures }) {
  const success = 1 - failures / requests;
  return (requests >= ENOUGH && success < FAILING) || (requests >= SOME && success < 0.5);
}

/** How bad the state of an upstream is: 0 is worst, 9 is well. With the words that the filter knows. */
export function judge(upstream, minute) {
  const staying = upstream.endpoints.filter((endpoint) => !endpoint.draining);
  const shut = staying.filter((endpoint) => endpoint.state !== 'closed');
  const words = [];
  let rank = 9;
  const is = (bad, word) => { rank = Math.min(rank, bad); words.push(word); };
  if (staying.length === 0) is(0, 'no endpoint');
  if (staying.length > 0 && staying.every(isOut)) is(0, 'broken');
  if (upstream.circuit === 'half_open') is(1, 'half-open probing');
  if (isFailing(minute)) is(2, 'failing');
  if (shut.length > 0) is(3, shut.map((endpoint) => endpoint.state.replace('_', '-')).join(' '));
  if (staying.some(isSick)) is(3, 'unhealthy');
  const seats = upstream.bulkhead;
  if (seats?.limit && seats.in_flight >= seats.limit * 0.8) is(seats.in_flight >= seats.limit ? 4 : 6, 'full bulkhead');
  if (upstream.retry_budget && upstream.retry_budget.limit >= 1 && upstream.retry_budget.tokens < 1) is(5, 'budget empty');
  if (staying.some((endpoint) => endpoint.forced)) is(7, 'forced');
  if ((upstream.sources ?? []).some((source) => source.problem)) is(8, 'unresolved discovery');
  if (rank === 9) words.push('ok well');
  const shade = rank === 9 ? 'good' : rank === 0 || rank === 2 ? 'bad' : 'warn';
  return { rank, shade, words: words.join(' '), shut, staying };
}

/** Whether an active health check says that an endpoint is not to be used. */
export const isSick = (endpoint) => endpoint.health?.state === 'unhealthy';

/** Whether an endpoint gets no request at all. */
const isOut = (endpoint) => isSick(endpoint) || endpoint.state === 'open';

/** Why a breaker is not closed and when it is tried again, in words. */
export function reasonOf(endpoint, status) {
  const parts = [];
  if (endpoint.since) parts.push(`since ${clock(endpoint.since)} (${lasts(endpoint.since, status)})`);
  if (endpoint.reason) parts.push(endpoint.reason);
  if (endpoint.forced) parts.push(`held ${endpoint.forced} by an operator`);
  else if (endpoint.next_probe_ms !== null) parts.push(`next probe in ${duration(endpoint.next_probe_ms)}`);
  else if (endpoint.state === 'half_open') parts.push('the next requests are probes');
  if (isSick(endpoint)) {
    parts.push(endpoint.health.reason ?? 'its health check fails');
    if (endpoint.health.next_check_ms) parts.push(`next check in ${duration(endpoint.health.next_check_ms)}`);
  }
  if (endpoint.opened_in_a_row > 1) parts.push(`opened ${endpoint.opened_in_a_row} times in a row`);
  return parts.join(' · ');
}

/** What becomes of an upstream's requests, by what became of those of the last minute. */
function doing(upstream, minute) {
  if (minute.requests === 0) return 'It got no request in the last minute.';
  const saved = minute.fallbacks > 0 ? `a fallback answered ${number(minute.fallbacks)} of ${plural(minute.requests, 'request', 'requests')} in the last minute` : '';
  const failed = minute.failures > 0 ? `${number(minute.failures)} of ${plural(minute.requests, 'request', 'requests')} failed in the last minute` : '';
  const said = [saved, failed].filter(Boolean).join(', ') || `all ${number(minute.requests)} requests of the last minute were answered`;
  return `${said[0].toUpperCase()}${said.slice(1)}.`;
}

function probes(endpoints) {
  const due = endpoints.map((endpoint) => endpoint.next_probe_ms).filter((ms) => ms !== null);
  return due.length > 0 ? ` Next probe in ${duration(Math.min(...due))}.` : '';
}

const unresolved = (upstream) => (upstream.sources ?? []).filter((source) => source.problem).map((source) => `${source.name}: ${source.problem}.`).join(' ');

const why = (endpoint) => `${endpoint.address}: ${endpoint.reason ?? (isSick(endpoint) ? endpoint.health.reason ?? 'its health check fails' : endpoint.state.replace('_', '-'))}`;

function whys(endpoints) {
  const shown = endpoints.slice(0, 3).map(why).join('; ');
  return endpoints.length > 3 ? `${shown}; and ${plural(endpoints.length - 3, 'other', 'others')}` : shown;
}

/** The first or the last of the times at which breakers left their closed state. */
function since(endpoints, pick) {
  const times = endpoints.map((endpoint) => endpoint.since).filter(Boolean).sort();
  return times.at(pick === 'first' ? 0 : -1) ?? null;
}

function ofUpstream(upstream, minute, judged, reasons) {
  const { rank, shade, shut, staying } = judged;
  const base = { upstream: upstream.name, shade, sign: shade === 'bad' ? '✕' : '◐', rank };
  if (staying.length === 0) {
    return { ...base, since: null, what: 'has no endpoint', why: unresolved(upstream) || 'Its names stand for no address.', doing: 'Its requests are refused with no_endpoint, and the names are asked for again.' };
  }
  if (rank === 0) {
    const breakers = staying.every((endpoint) => endpoint.state === 'open');
    const all = breakers
      ? (staying.length === 1 ? 'its breaker is open' : `the breakers of all ${staying.length} endpoints are open`)
      : `all ${staying.length} endpoints are unhealthy or have an open breaker`;
    return { ...base, since: breakers ? since(shut, 'last') : null, what: `is broken: ${all}`, why: `${whys(staying)}.`, doing: `${doing(upstream, minute)}${probes(shut)}` };
  }
  if (rank === 2) {
    const out = staying.filter(isOut).concat(shut.filter((endpoint) => endpoint.state === 'half_open'));
    const mostly = reasons ? `Mostly ${reasons}.` : 'The failed requests say why.';
    return { ...base, since: null, what: `fails: ${percent(1 - minute.failures / minute.requests)} of its requests succeed`,
      why: out.length > 0 ? `${mostly} ${whys(out)}.` : mostly, doing: `${doing(upstream, minute)}${probes(shut)}` };
  }
  if (upstream.circuit === 'half_open') {
    return { ...base, since: since(shut, 'first'), what: 'is being probed', why: `${whys(shut)}.`, doing: `A few requests find out whether it works again. ${doing(upstream, minute)}` };
  }
  if (shut.length > 0) {
    return { ...base, since: since(shut, 'first'), what: `works without ${shut.length} of its ${staying.length} endpoints`,
      why: `${whys(shut)}.`, doing: `The others take its share. ${doing(upstream, minute)}${probes(shut)}` };
  }
  const sick = staying.filter(isSick);
  if (sick.length > 0) {
    return { ...base, since: null, what: `has ${plural(sick.length, 'unhealthy endpoint', 'unhealthy endpoints')} of ${staying.length}`,
      why: `${whys(sick)}.`, doing: `The others take its share. ${doing(upstream, minute)}` };
  }
  if (rank === 4 || rank === 6) {
    const b = upstream.bulkhead;
    const queue = b.max_queue > 0 ? ` and ${number(b.queued)} of ${number(b.max_queue)} places in its queue` : '';
    return { ...base, sign: '▲', since: null, what: rank === 4 ? 'has a full bulkhead' : 'is near the limit of its bulkhead',
      why: `${number(b.in_flight)} of ${number(b.limit)} seats${queue} are taken.`, doing: doing(upstream, minute) };
  }
  if (rank === 5) {
    const r = upstream.retry_budget;
    return { ...base, sign: '▲', since: null, what: 'has used up its retry budget', why: `${r.tokens.toFixed(1)} of ${r.limit.toFixed(1)} tokens are left.`, doing: 'Failed tries are not made again until requests have filled it.' };
  }
  if (rank === 8) {
    return { ...base, sign: '▲', since: null, what: 'cannot be found anew', why: unresolved(upstream), doing: 'The endpoints that were found last stay in use, and it is asked again.' };
  }
  const forced = staying.filter((endpoint) => endpoint.forced);
  return { ...base, sign: '⚑', since: null, what: `has ${plural(forced.length, 'breaker', 'breakers')} in an operator's hand`, why: `${forced.slice(0, 3).map((endpoint) => `${endpoint.address}: held ${endpoint.forced}`).join('; ')}.`, doing: 'It stays so until it is set to auto.' };
}

/** Whole days until a certificate expires; below 0: it has. */
export const daysLeft = (certificate, status) => Math.floor((Date.parse(certificate.expires_at) - Date.parse(status.at)) / DAY);
export const userOf = (certificate) => (certificate.listener !== null ? `listener ${certificate.listener}` : `upstream ${certificate.upstream}`);
export const isSoon = (days) => days < SOON;

function ofCertificates(status) {
  const found = [];
  for (const certificate of status.certificates) {
    const days = daysLeft(certificate, status);
    if (!isSoon(days)) continue;
    const when = days < 0 ? 'has expired' : days < 1 ? 'expires within a day' : `expires in ${plural(days, 'day', 'days')}`;
    found.push({ rank: days < 0 ? 1 : 8, shade: days < 0 ? 'bad' : 'warn', sign: days < 0 ? '✕' : '▲', what: `A certificate of ${userOf(certificate)} ${when}`, why: certificate.file, doing: 'Put a new one into its place: files are watched.' });
  }
  const unused = new Map(status.certificates.filter((one) => one.problem !== null).map((one) => [userOf(one), one.problem]));
  for (const [user, problem] of unused) {
    found.push({ rank: 3, shade: 'bad', sign: '✕', what: `The newer certificates of ${user} are not in use`, why: problem, doing: 'Those from before still are.' });
  }
  return found;
}

function ofProcess(status) {
  const found = [];
  if (status.process.draining) {
    found.push({ rank: 0, shade: 'warn', sign: '▼', what: 'Draining: new work is turned away', why: '', doing: 'What is in flight is answered first.' });
  } else if (!status.process.ready) {
    found.push({ rank: 0, shade: 'warn', sign: '▲', what: 'Starting: not every listener is bound yet', why: '', doing: '' });
  }
  const last = status.last_reload;
  if (last?.result === 'refused') {
    found.push({ rank: 2, shade: 'bad', sign: '✕', since: last.at, what: `The last configuration was refused: ${plural(last.problems.length, 'problem', 'problems')}`,
      why: last.problems[0] ?? '', doing: `Generation ${last.generation} still runs.` });
  }
  return found;
}

/** All that is wrong, the worst first. `reasons` gives those of an upstream's failed requests. */
export function troubles(status, judged, minutes, reasons) {
  const found = [...ofProcess(status), ...ofCertificates(status)];
  for (const upstream of status.upstreams) {
    const one = judged.get(upstream.name);
    if (one.rank < 9) found.push(ofUpstream(upstream, minutes.get(upstream.name), one, reasons(upstream.name)));
  }
  return found.sort((one, other) => one.rank - other.rank || (one.upstream ?? '').localeCompare(other.upstream ?? ''));
}

/** The answer in one line. */
export function verdict(status, found) {
  const bad = found.filter((one) => one.shade === 'bad').length;
  const upstreams = status.upstreams.length;
  if (found.length === 0) {
    if (upstreams === 0) return ['good', 'Nothing is broken: no upstream is configured.'];
    return ['good', upstreams === 1 ? 'All is well: the upstream works.' : `All is well: all ${number(upstreams)} upstreams work.`];
  }
  const rest = found.length - bad;
  if (bad === 0) return ['warn', `${plural(rest, 'thing needs', 'things need')} a look; nothing is broken.`];
  const more = rest > 0 ? `, ${number(rest)} more ${rest === 1 ? 'needs' : 'need'} a look` : '';
  return ['bad', `${plural(bad, 'thing is', 'things are')} broken${more}.`];
}
