/** One event, as the WHATWG standard dispatches it. */
export interface StreamEvent {
  /** The `event:` field, `"message"` by default. */
  readonly type: string;
  /** The `data:` lines, joined by LF. */
  readonly data: string;
  /** The last event ID string when the event was dispatched; empty before the first id. */
  readonly id: string;
}

/** `stream.gap`: events after the requested position are no longer available. Load the current state again. */
export interface Gap {
  readonly requested: string | null;
  readonly oldest: string | null;
  /** `evicted`, `epoch`, `unknown`, `budget`; or `tabs`: the tab that shares its connection has not kept them. */
  readonly reason: string;
}

/** `stream.bye`: the server closes the stream. */
export interface Bye {
  readonly reason: string;
  /** False: the client must not reconnect. */
  readonly reconnect: boolean;
}

/** `stream.reauth`: the token expires soon. */
export interface Reauth {
  /** Unix time in seconds. */
  readonly expires: number;
  /** Seconds until then. */
  readonly in: number;
}

/** `stream.hello`: the first event of a stream of topics. */
export interface Hello {
  /** Seconds without an event after which the server sends a comment. */
  readonly heartbeat: number;
  readonly replay: { readonly events: number; readonly seconds: number };
  readonly cursor: string;
}

// `[<work>.]<epoch>-<offset>[.end]` (docs/protocol.md). The work names the answer or relay that the request has started.
const ID = /^([\w-]{1,64}\.)?[0-9a-z]{1,32}-\d{1,18}(\.end)?$/;

/** Whether this is the id of the last event of a stream. */
export function isLastId(id: string): boolean {
  return ID.exec(id)?.[2] !== undefined;
}

/** Whether the id names an answer or relay, whose stream has an end. */
export function namesWork(id: string): boolean {
  return ID.exec(id)?.[1] !== undefined;
}

/** The JSON value of the text; undefined if it is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
