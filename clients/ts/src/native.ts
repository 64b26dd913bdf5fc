import { call } from "./callback.js";
import { StreamError } from "./errors.js";
import type { StreamEvent } from "./event.js";
import { Reader, type Callbacks, type EventStream } from "./reader.js";
import { backoff } from "./retry.js";

export interface NativeOptions extends Callbacks {
  /** The event types to listen for, besides `message`. An EventSource delivers only types that have a listener. */
  types?: readonly string[];
  /** Sent as `?ticket=`. If it is given, a stream that the server refuses is opened again with a new ticket. */
  ticket?: () => string | Promise<string>;
  /** Send cookies to other origins. */
  withCredentials?: boolean;
  signal?: AbortSignal;
  /** The position to start after: the id of the last event that was received before. */
  lastEventId?: string;
  /** Whether an event is the last one. Not needed with Yeoul, where the id of the last event says so. */
  isEnd?: (event: StreamEvent) => boolean;
  /** Consecutive refusals after which the stream is closed. Default: 5. */
  maxFailures?: number;
}

const CONTROL = ["stream.hello", "stream.gap", "stream.reauth", "stream.bye", "stream.end"];
const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;

/** Reads a stream with the browser's EventSource, which reconnects by itself. */
class NativeConnection extends Reader {
  readonly #url: URL;
  readonly #options: NativeOptions;
  #source: EventSource | undefined;
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string | URL, options: NativeOptions) {
    super(options, options.lastEventId, options.isEnd);
    this.#url = new URL(url, globalThis.location?.href);
    this.#options = options;
    options.signal?.addEventListener("abort", this.#onAbort);
    queueMicrotask(() => (options.signal?.aborted ? this.close() : void this.#open()));
  }

  readonly #onAbort = () => this.close();

  protected override release(): void {
    this.#source?.close();
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
  }

  async #open(): Promise<void> {
    if (this.isClosed) return;
    this.setState("connecting");
    const { ticket, types = [], withCredentials = false } = this.#options;
    const url = new URL(this.#url);
    try {
      if (ticket) url.searchParams.set("ticket", await ticket());
    } catch (cause) {
      return this.#onRefused(new StreamError("request", "failed to get a ticket", { cause }));
    }
    if (this.isClosed) return;
    if (this.lastEventId) url.searchParams.set("lastEventId", this.lastEventId);
    const source = (this.#source = new EventSource(url, { withCredentials }));
    source.onopen = () => {
      this.beginConnection();
      this.setState("open");
      call(this.callbacks.onOpen);
    };
    for (const type of new Set(["message", ...types, ...CONTROL])) {
      source.addEventListener(type, (event) => {
        // The browser's own `error` events have the same type as events that a server names `error`.
        if (event instanceof MessageEvent) this.#onMessage(event as MessageEvent<string>);
      });
    }
    source.onerror = (event) => {
      if (!(event instanceof MessageEvent)) this.#onError(source);
    };
  }

  #onMessage({ type, data, lastEventId }: MessageEvent<string>): void {
    this.#failures = 0;
    // An event without an id of its own has the id of the previous event.
    this.receive({ type, data, id: lastEventId }, lastEventId !== this.lastEventId);
    if (this.bye?.reconnect === false) this.finish({ reason: "bye" });
  }

  #onError(source: EventSource): void {
    if (source.readyState !== EventSource.CLOSED) {
      this.setState("waiting");
      const error = new StreamError("network", "the connection to the server was lost");
      return call(this.callbacks.onError, error, { failures: 0, retryIn: 0 });
    }
    this.#onRefused(new StreamError("http", "the server refused the stream (an EventSource does not expose the status)"));
  }

  #onRefused(error: StreamError): void {
    this.#failures += 1;
    const tries = this.#options.ticket && this.#failures < (this.#options.maxFailures ?? 5);
    const retryIn = tries ? backoff(this.#failures - 1, FIRST_WAIT, LONGEST_WAIT) : undefined;
    call(this.callbacks.onError, error, { failures: this.#failures, retryIn });
    if (retryIn === undefined) return this.finish({ reason: "failed", error });
    this.setState("waiting");
    this.#timer = setTimeout(() => void this.#open(), retryIn);
  }
}

/**
 * Reads a stream with the browser's EventSource, with the events and callbacks of `connect`. No headers and no POST; the
 * browser decides when to reconnect (`retryIn` is 0), and does not say why it gives up.
 *
 * Throws TypeError for an invalid URL.
 */
export function connectNative(url: string | URL, options: NativeOptions = {}): EventStream {
  return new NativeConnection(url, options);
}
