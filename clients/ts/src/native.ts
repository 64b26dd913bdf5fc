import { call } from "./callback.js";
import { StreamError } from "./errors.js";
import type { StreamEvent } from "./event.js";
import { Reader, type Callbacks, type EventStream } from "./reader.js";
import { backoff } from "./retry.js";

export interface NativeOptions extends Callbacks {
  /** The types of events to listen for beside `message`: an EventSource hands on only those that are named. */
  types?: readonly string[];
  /** Sent as `?ticket=`. With it a stream that the server has refused is opened again with a new one. */
  ticket?: () => string | Promise<string>;
  /** Send cookies to another origin, too. */
  withCredentials?: boolean;
  signal?: AbortSignal;
  /** Where to begin: the id of the last event that was received before. */
  lastEventId?: string;
  /** Whether an event is the last one. Not needed for servers whose last id says so, as Yeoul's does. */
  isEnd?: (event: StreamEvent) => boolean;
  /** Refusals in a row, after which no new ticket is asked for. */
  maxFailures?: number;
}

const CONTROL = ["stream.hello", "stream.gap", "stream.reauth", "stream.bye", "stream.end"];
const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 30_000;

/** Reads a stream with the browser's own EventSource, which reconnects by itself. */
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
      return this.#onRefused(new StreamError("request", "the ticket could not be had", { cause }));
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
        // An event of the server's that is named `error` comes beside the browser's own.
        if (event instanceof MessageEvent) this.#onMessage(event as MessageEvent<string>);
      });
    }
    source.onerror = (event) => {
      if (!(event instanceof MessageEvent)) this.#onError(source);
    };
  }

  #onMessage({ type, data, lastEventId }: MessageEvent<string>): void {
    this.#failures = 0;
    // The id of an event that has none of its own is that of the event before.
    this.receive({ type, data, id: lastEventId }, lastEventId !== this.lastEventId);
    if (this.bye?.reconnect === false) this.finish({ reason: "bye" });
  }

  #onError(source: EventSource): void {
    if (source.readyState !== EventSource.CLOSED) {
      this.setState("waiting");
      const error = new StreamError("network", "the connection to the server was lost");
      return call(this.callbacks.onError, error, { failures: 0, retryIn: undefined });
    }
    this.#onRefused(new StreamError("http", "the server refused the stream (an EventSource does not say with which status)"));
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
 * The same events and callbacks as `connect`, from the browser's own EventSource: no headers, no POST; the browser
 * reconnects, and does not say why it gives up.
 */
export function connectNative(url: string | URL, options: NativeOptions = {}): EventStream {
  return new NativeConnection(url, options);
}
