/** One event, as the WHATWG standard dispatches it. */
export interface StreamEvent {
  /** The `event:` field, `"message"` where there was none. */
  readonly type: string;
  /** The `data:` lines, joined by LF. */
  readonly data: string;
  /** The last event ID string when the event was dispatched, `""` where no id has come yet. */
  readonly id: string;
}

/** `stream.gap`: the position asked for is no longer covered. Load the state anew. */
export interface Gap {
  readonly requested: string | null;
  readonly oldest: string | null;
  /** `evicted`, `epoch`, `unknown` or `budget`; `tabs` where another tab's connection began after this tab's position. */
  readonly reason: string;
}

/** `stream.bye`: the server ends the stream. */
export interface Bye {
  readonly reason: string;
  /** False: stay away. */
  readonly reconnect: boolean;
}

/** `stream.reauth`: the token ends soon. */
export interface Reauth {
  /** Unix time in seconds. */
  readonly expires: number;
  /** Seconds until then. */
  readonly in: number;
}

/** `stream.hello`: the first event on topics. */
export interface Hello {
  /** Seconds of silence after which the server sends a comment. */
  readonly heartbeat: number;
  readonly replay: { readonly events: number; readonly seconds: number };
  readonly cursor: string;
}

// `[<work>.]<epoch>-<offset>[.end]`: with the work where the request has started it, with `.end` on the last event.
const ID = /^([\w-]{1,64}\.)?[0-9a-z]{1,32}-\d{1,18}(\.end)?$/;

/** Whether the id is that of the last event of its stream. */
export function isLastId(id: string): boolean {
  return ID.exec(id)?.[2] !== undefined;
}

/** Whether the id names work that the request has started, such as an answer: its stream has an end. */
export function namesWork(id: string): boolean {
  return ID.exec(id)?.[1] !== undefined;
}

/** The JSON value of the text, `undefined` where it is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
