/** Statuses of temporary failures (RFC 9110: 408, 500, 502-504; RFC 8470: 425; RFC 6585: 429). */
const RETRYABLE = [408, 425, 429, 500, 502, 503, 504];

// Bounds of `retry:` in milliseconds, the same as those of `yeoul listen`.
const LEAST_RETRY = 100;
const MOST_RETRY = 600_000;

/** The longest time that setTimeout can wait. */
const MAX_TIMER = 2 ** 31 - 1;

export function isRetryable(status: number): boolean {
  return RETRYABLE.includes(status);
}

/** Limits a `retry:` value (milliseconds) to the allowed range. */
export function boundedRetry(retry: number): number {
  return Math.min(Math.max(retry, LEAST_RETRY), MOST_RETRY);
}

/**
 * The delay in milliseconds after the given number of consecutive failures: `base`, doubled for each failure up to `cap`,
 * plus a random part of up to half of it, so that clients that failed together do not reconnect together.
 */
export function backoff(failures: number, base: number, cap: number): number {
  const ceiling = Math.min(Math.max(cap, base), base * 2 ** Math.min(failures, 30));
  return spread(ceiling, 0.5);
}

/** Adds a random part to the time, at most `part` times as long. */
export function spread(ms: number, part: number): number {
  return Math.min(ms * (1 + Math.random() * part), MAX_TIMER);
}

/**
 * Milliseconds from a Retry-After field: delay-seconds or an HTTP date (RFC 9110, 10.2.3); undefined if it is invalid. An
 * HTTP date is compared with `date`, the response's Date field, because the clock of this machine may be wrong.
 */
export function parseRetryAfter(value: string | null, date: string | null): number | undefined {
  const text = value?.trim();
  if (!text) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const when = /^[a-z]/i.test(text) ? Date.parse(text) : NaN; // Date.parse accepts "-1"
  const now = date === null ? NaN : Date.parse(date);
  const wait = when - (Number.isNaN(now) ? Date.now() : now);
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}
