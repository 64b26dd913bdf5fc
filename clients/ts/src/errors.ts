/**
 * Why a stream failed.
 *
 * - `http`: the server refused the request; `status`, `retryAfter` and `problem` say more
 * - `network`: the server cannot be reached, or the connection was lost
 * - `timeout`: no response within `connectTimeout`, or no byte for 2.5 heartbeat intervals
 * - `content-type`: the response is not `text/event-stream`
 * - `too-large`: an event is larger than `maxEventSize`
 * - `truncated`: the stream ended before its last event, and cannot be resumed
 * - `request`: the function for headers, token or ticket failed, or they are invalid; see `cause`
 */
export type ErrorCode = "http" | "network" | "timeout" | "content-type" | "too-large" | "truncated" | "request";

/** The body of an error response, `application/problem+json` (RFC 9457). */
export interface Problem {
  readonly title?: string;
  readonly status?: number;
  readonly detail?: string;
  readonly [member: string]: unknown;
}

export interface StreamErrorDetails {
  readonly status?: number;
  /** Milliseconds, from the `Retry-After` header. */
  readonly retryAfter?: number;
  readonly problem?: Problem;
  readonly cause?: unknown;
}

export class StreamError extends Error {
  readonly code: ErrorCode;
  readonly status: number | undefined;
  readonly retryAfter: number | undefined;
  readonly problem: Problem | undefined;

  constructor(code: ErrorCode, message: string, details: StreamErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.name = "StreamError";
    this.code = code;
    this.status = details.status;
    this.retryAfter = details.retryAfter;
    this.problem = details.problem;
  }
}
