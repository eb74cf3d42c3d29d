// Numbers, times and states as a person reads them.

export const number = (value) => Number(value).toLocaleString('en');

/** A number in few characters: 950, 1.2k, 34k, 5.6M. */
export function short(value) {
  if (value < 1000) return value < 10 && !Number.isInteger(value) ? value.toFixed(1) : String(Math.round(value));
  const [unit, by] = value < 999_500 ? ['k', 1e3] : ['M', 1e6];
  const scaled = value / by;
  return `${scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)}${unit}`;
}

/** A share in percent; 100 % only where it is all, 0 % only where it is nothing. */
export function percent(share) {
  if (share <= 0) return '0 %';
  if (share >= 1) return '100 %';
  const value = share * 100;
  if (value > 99) return `${(Math.floor(value * 100) / 100).toFixed(2)} %`;
  if (value < 1) return `${Math.max(value, 0.01).toFixed(2)} %`;
  return `${value.toFixed(1)} %`;
}

/** A duration with the two units that matter. */
export function duration(ms) {
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 10) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (s < 60) return `${s} s`;
  const parts = [[Math.floor(s / 86400), 'd'], [Math.floor(s / 3600) % 24, 'h'], [Math.floor(s / 60) % 60, 'min'], [s % 60, 's']];
  const first = parts.findIndex(([value]) => value > 0);
  return parts.slice(first, first + 2).filter(([value]) => value > 0).map(([value, unit]) => `${value} ${unit}`).join(' ');
}

/** A time of day as the reader's clock has it. */
export function clock(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? String(at) : date.toLocaleTimeString('en-GB');
}

/** How long something lasts at the time of this status, in whole seconds. */
export function lasts(since, status) {
  const ms = Date.parse(status.at) - Date.parse(since);
  return Number.isNaN(ms) ? '' : duration(Math.max(1000, Math.floor(ms / 1000) * 1000));
}

export const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

/** The state of a breaker: sign, word, shade. */
export const BREAKERS = {
  closed: ['●', 'closed', 'good'],
  open: ['✕', 'open', 'bad'],
  half_open: ['◐', 'half-open', 'warn'],
};

/** A last minute of which nothing is known. */
export const NOTHING = { requests: 0, failures: 0, fallbacks: 0, retries: 0, p50_ms: null, p99_ms: null };
