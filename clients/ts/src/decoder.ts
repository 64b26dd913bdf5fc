import { createParser } from "eventsource-parser";

import { StreamError } from "./errors.js";
import type { StreamEvent } from "./event.js";

/** Characters of one event: larger than any that a server in its senses sends, small enough for one tab to hold. */
export const DEFAULT_MAX_EVENT_SIZE = 16 * 1024 * 1024;

export interface DecoderCallbacks {
  /** `hasId`: the block had an `id:` of its own. */
  onEvent(event: StreamEvent, hasId: boolean): void;
  /** Milliseconds. */
  onRetry(retry: number): void;
  onComment(comment: string): void;
}

/** Bytes of one response → events (WHATWG HTML, 9.2.5 and 9.2.6). */
export class Decoder {
  /** The last event ID string. Kept over a reconnect, as browsers do. */
  lastEventId: string;
  readonly #text = new TextDecoder("utf-8", { ignoreBOM: true }); // the parser removes the BOM, exactly one
  readonly #parser;
  #tooLarge = false;

  constructor(callbacks: DecoderCallbacks, lastEventId = "", maxEventSize = DEFAULT_MAX_EVENT_SIZE) {
    this.lastEventId = lastEventId;
    let before = lastEventId;
    this.#parser = createParser({
      maxBufferSize: maxEventSize,
      onId: (id) => {
        if (this.#tooLarge) return;
        before = this.lastEventId;
        this.lastEventId = id;
      },
      onEvent: ({ event, data, id }) => {
        // Neither it nor what follows it in the same bytes is dispatched, so that the position stays before it.
        if (this.#tooLarge) return;
        if (data.length > maxEventSize) {
          this.#tooLarge = true;
          if (id !== undefined) this.lastEventId = before;
          return;
        }
        callbacks.onEvent({ type: event ?? "message", data, id: this.lastEventId }, id !== undefined);
      },
      onRetry: callbacks.onRetry,
      onComment: callbacks.onComment,
      onError: (error) => {
        if (error.type === "max-buffer-size-exceeded") this.#tooLarge = true;
      },
    });
  }

  /** Throws StreamError (`too-large`) where an event passes the bound. */
  feed(bytes: Uint8Array): void {
    this.#parser.feed(this.#text.decode(bytes, { stream: true }));
    if (this.#tooLarge) throw new StreamError("too-large", "an event is larger than maxEventSize");
  }
}
