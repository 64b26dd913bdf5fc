import { Connection, type ConnectOptions } from "./connection.js";
import type { EventStream } from "./reader.js";

/**
 * Reads a stream of events over as many connections as it takes, until it ends or is closed.
 *
 * Events go to `options.onEvent`; without it, to the async iterator of what is returned, which reads no faster than its
 * events are taken. The iterator ends where the stream does, and throws StreamError where that failed.
 *
 * A request that is not a GET is sent once. Where its response names an address (`Content-Location`, `Location`), the
 * stream is resumed there; otherwise a cut is an error (`truncated`).
 */
export function connect(url: string | URL, options: ConnectOptions = {}): EventStream {
  return new Connection(url, options);
}
