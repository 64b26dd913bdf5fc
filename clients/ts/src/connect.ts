import { Connection, type ConnectOptions } from "./connection.js";
import type { EventStream } from "./reader.js";
import { SharedConnection } from "./shared.js";

/**
 * Reads a stream of events over as many connections as it takes, until it ends or is closed.
 *
 * Events go to `options.onEvent`; without it, to the async iterator of what is returned, which reads no faster than its
 * events are taken. The iterator ends where the stream does, and throws StreamError where that failed.
 *
 * A request that is not a GET is sent once. Where its response names an address (`Content-Location`, `Location`), the
 * stream is resumed there; otherwise a cut is an error (`truncated`).
 *
 * Throws TypeError for an invalid URL, and for `share` where it would mix up requests or users.
 */
export function connect(url: string | URL, options: ConnectOptions = {}): EventStream {
  const { share, body, method = "GET", token, headers, ticket, onEvent } = options;
  if (share === undefined) return new Connection(url, options);
  if (body != null || method.toUpperCase() !== "GET") throw new TypeError("only a GET can be shared by tabs");
  if (!onEvent) throw new TypeError("`share` needs `onEvent`: an iterator that is slow would hold up the other tabs");
  if (share === true && (token ?? headers ?? ticket) !== undefined) {
    throw new TypeError("give `share` the name of the user: tabs with different credentials must not share a stream");
  }
  return new (SharedConnection.isSupported ? SharedConnection : Connection)(url, options);
}
