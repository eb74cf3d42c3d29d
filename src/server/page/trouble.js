// What is wrong, the worst first. The proxy judges; here it is put in order and given its sign.

import { clock, duration, lasts } from './words.js';

const DAY = 86400e3;
const SOON = 14; // days, as `mamparo check` warns
const SHADES = { ok: 'good', warning: 'warn', error: 'bad' };
const SIGNS = { ok: '●', warning: '▲', error: '✕', degraded: '◐', half_open: '◐', forced: '⚑', draining: '▼' };

/** Sign, word and shade of a judgement. */
export const signOf = ({ word, severity }) => [SIGNS[word] ?? SIGNS[severity], wordOf(word), SHADES[severity]];

/** A word of the proxy's as a person reads it. */
export const wordOf = (word) => word.replaceAll('_', ' ').replace('half open', 'half-open');

/** All that is wrong with the process and its upstreams, the worst first. */
export function troubles(status) {
  const upstreams = status.upstreams.filter(({ judgement }) => judgement.severity !== 'ok');
  const found = [...status.notices, ...upstreams.map(({ name, judgement }) => ({ upstream: name, ...judgement }))];
  return found.sort((one, other) => one.rank - other.rank || (one.upstream ?? '').localeCompare(other.upstream ?? ''));
}

/** Whether an active health check says that an endpoint is not to be used. */
export const isSick = (endpoint) => endpoint.health?.state === 'unhealthy';

/** Why a breaker is not closed and when it is tried again, in words. */
export function reasonOf(endpoint, status) {
  const parts = [];
  if (endpoint.since) parts.push(`since ${clock(endpoint.since)} (${lasts(endpoint.since, status)})`);
  if (endpoint.forced) parts.push(`held ${endpoint.forced} by an operator`);
  else if (endpoint.reason) parts.push(endpoint.reason);
  if (endpoint.next_probe_ms !== null) parts.push(`next probe in ${duration(endpoint.next_probe_ms)}`);
  else if (endpoint.state === 'half_open') parts.push('the next requests are probes');
  if (isSick(endpoint)) {
    parts.push(endpoint.health.reason ?? 'its health check fails');
    if (endpoint.health.next_check_ms) parts.push(`next check in ${duration(endpoint.health.next_check_ms)}`);
  }
  if (endpoint.opened_in_a_row > 1) parts.push(`opened ${endpoint.opened_in_a_row} times in a row`);
  return parts.join(' · ');
}

/** Whole days until a certificate expires; below 0: it has. */
export const daysLeft = (certificate, status) => Math.floor((Date.parse(certificate.expires_at) - Date.parse(status.at)) / DAY);
export const userOf = (certificate) => (certificate.listener !== null ? `listener ${certificate.listener}` : `upstream ${certificate.upstream}`);
export const isSoon = (days) => days < SOON;
