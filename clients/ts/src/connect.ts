import { Connection, type ConnectOptions } from "./connection.js";
import type { EventStream } from "./reader.js";
import { SharedConnection } from "./shared.js";

/**
 * Reads a stream, and reconnects until it ends or is closed.
 *
 * Events are passed to `options.onEvent`. Without it they are read with the async iterator of the returned stream, which
 * applies back-pressure; it ends with the stream, and throws StreamError if the stream fails.
 *
 * Only a GET is sent again. A stream that was started by another method is resumed by a GET of the `Content-Location` or
 * `Location` of its response; without one, a lost connection is an error (`truncated`).
 *
 * Throws TypeError for an invalid URL, and for `share` with a body, without `onEvent`, or without the name of the user.
 */
export function connect(url: string | URL, options: ConnectOptions = {}): EventStream {
  const { share, body, method = "GET", token, headers, ticket, onEvent } = options;
  if (share === undefined) return new Connection(url, options);
  if (body != null || method.toUpperCase() !== "GET") throw new TypeError("only a GET can be shared among tabs");
  if (!onEvent) throw new TypeError("`share` requires `onEvent`: a slow iterator would delay the other tabs");
  if (share === true && (token ?? headers ?? ticket) !== undefined) {
    throw new TypeError("with `token`, `headers` or `ticket`, `share` must be a name for the user, such as their id");
  }
  return new (SharedConnection.isSupported ? SharedConnection : Connection)(url, options);
}
