import { createParser } from "eventsource-parser";

import { StreamError } from "./errors.js";
import type { StreamEvent } from "./event.js";

/** Characters of one event. The limit of the Python decoder is the same number of bytes. */
export const DEFAULT_MAX_EVENT_SIZE = 16 * 1024 * 1024;

export interface DecoderCallbacks {
  /** `hasId`: the block had an `id:` field. */
  onEvent(event: StreamEvent, hasId: boolean): void;
  /** Milliseconds. */
  onRetry(retry: number): void;
  onComment(comment: string): void;
}

/** Decodes the body of one response to events (WHATWG HTML, 9.2.5 and 9.2.6). */
export class Decoder {
  /** The last event ID string. A new decoder starts with that of the previous one, as in browsers. */
  lastEventId: string;
  readonly #text = new TextDecoder("utf-8", { ignoreBOM: true }); // the parser removes the BOM, exactly one
  readonly #parser;
  #tooLarge = false;

  constructor(callbacks: DecoderCallbacks, lastEventId = "", maxEventSize = DEFAULT_MAX_EVENT_SIZE) {
    this.lastEventId = lastEventId;
    this.#parser = createParser({
      maxBufferSize: maxEventSize,
      onId: (id) => {
        this.lastEventId = id;
      },
      onEvent: ({ event, data, id }) => {
        if (data.length > maxEventSize) this.#tooLarge = true;
        // The event and everything after it in the same bytes are dropped: the stream is closed.
        if (this.#tooLarge) return;
        callbacks.onEvent({ type: event ?? "message", data, id: this.lastEventId }, id !== undefined);
      },
      onRetry: callbacks.onRetry,
      onComment: callbacks.onComment,
      onError: (error) => {
        if (error.type === "max-buffer-size-exceeded") this.#tooLarge = true;
      },
    });
  }

  /** Throws StreamError (`too-large`) if an event is larger than the limit. */
  feed(bytes: Uint8Array): void {
    this.#parser.feed(this.#text.decode(bytes, { stream: true }));
    if (this.#tooLarge) throw new StreamError("too-large", "an event is larger than maxEventSize");
  }
}
