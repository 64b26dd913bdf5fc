import { call } from "./callback.js";
import { Decoder } from "./decoder.js";
import { StreamError, type Problem } from "./errors.js";
import { parseJson, type Hello, type StreamEvent } from "./event.js";
import { Page, type WhenHidden } from "./page.js";
import { Reader, type Callbacks } from "./reader.js";
import { backoff, boundedRetry, isRetryable, parseRetryAfter, spread } from "./retry.js";

/** What a function that provides credentials is given. `refresh`: the previous ones were refused or have expired. */
export interface CredentialRequest {
  readonly refresh: boolean;
}

/** A value, or a function that is called for each request and returns it. */
export type Provided<T> = T | ((request: CredentialRequest) => T | Promise<T>);

export interface ConnectOptions extends Callbacks {
  /** By default POST if there is a body, otherwise GET. Only a GET is sent again. */
  method?: string;
  /** Any body that `fetch` takes. Other objects and arrays are sent as JSON. */
  body?: BodyInit | object;
  headers?: Provided<HeadersInit>;
  /** Sent as `Authorization: Bearer …`. */
  token?: Provided<string | undefined>;
  /** Sent as `?ticket=`. Called for each request, because a ticket is valid once. */
  ticket?: (request: CredentialRequest) => string | Promise<string>;
  credentials?: RequestCredentials;
  fetch?: typeof fetch;
  signal?: AbortSignal;
  /** The position to start after: the id of the last event that was received before. */
  lastEventId?: string;
  /** Whether an event is the last one. Not needed with Yeoul, where the id of the last event says so. */
  isEnd?: (event: StreamEvent) => boolean;
  /** False: do not reconnect. */
  reconnect?: boolean;
  /** Milliseconds before the first attempt to reconnect, unless the server sends `retry:`. Default: 2000. */
  reconnectInterval?: number;
  /** The longest delay between two attempts, in milliseconds. Default: 30 000. */
  maxReconnectInterval?: number;
  /** Consecutive failures after which the stream is closed. Default: no limit. */
  maxFailures?: number;
  /** Milliseconds to wait for the response headers. Default: 60 000. */
  connectTimeout?: number;
  /**
   * The server's heartbeat interval in milliseconds, 0 for none. The client reconnects after 2.5 intervals without a byte.
   * Default: the interval in `stream.hello`; 15 000 on Yeoul's other streams; none on other servers.
   */
  heartbeat?: number;
  /** The largest event, in characters. Default: 16 Mi. */
  maxEventSize?: number;
  /**
   * `"pause"` (default): close the connection while the page is hidden, and resume when it is visible again. A request that
   * cannot be resumed keeps its connection. `"stay"`: keep the connection, for example if the answer stops without readers.
   */
  whenHidden?: WhenHidden;
  /**
   * Share one connection among all tabs of this browser that use the same URL and the same `share`. With `token`, `headers`
   * or `ticket` it must be a name for the user, so that tabs of different users do not share; `true` is for public streams
   * and for cookies. A tab that joins receives the newest events of the connection. Requires `onEvent`. Without Web Locks
   * (old browsers, pages without HTTPS) each tab has its own connection.
   */
  share?: string | true;
}

// Yeoul's default heartbeat interval in milliseconds. Its streams start with the comment `yeoul`.
const YEOUL_HEARTBEAT = 15_000;
const MAX_SILENT_HEARTBEATS = 2.5;
// A connection that lasted this long (milliseconds) counts as a success even without events.
const GOOD_CONNECTION = 10_000;
// Characters read of the body of an error response.
const MAX_PROBLEM = 65_536;
// What an HTTP field value may contain (RFC 9110, 5.5), one character for each byte.
const FIELD_VALUE = /^[\x20-\x7e\x80-\xff]*$/;

/** Why this client aborted a connection. */
type Cut = "pause" | "silent" | "slow";

/** How an attempt ended. */
interface Ended {
  error?: StreamError;
  /** Whether another attempt may succeed. */
  retryable: boolean;
  /** Whether the stream had been opened. */
  opened?: boolean;
  /** Milliseconds, from Retry-After. */
  wait?: number | undefined;
}

/** Reads a stream with `fetch`, and reconnects. */
export class Connection extends Reader {
  readonly #options: ConnectOptions;
  readonly #url: URL;
  readonly #method: string;
  protected readonly page: Page;
  // The URL that resumes the stream: for a GET its own, otherwise the one that the response names. Undefined: none known.
  #resumeUrl: URL | undefined;
  #retry: number;
  #failures = 0;
  #refresh = false;
  #refreshed = false;
  #heartbeat = 0;
  #attempt: AbortController | undefined;
  #cut: Cut | undefined;
  #phase: "idle" | "active" | "waiting" = "active";
  #wake: () => void = () => {};

  constructor(url: string | URL, options: ConnectOptions = {}) {
    super(options, options.lastEventId, options.isEnd);
    this.#options = options;
    this.#url = new URL(url, globalThis.location?.href);
    this.#method = (options.method ?? (options.body == null ? "GET" : "POST")).toUpperCase();
    this.#resumeUrl = this.#method === "GET" ? this.#url : undefined;
    this.#retry = boundedRetry(options.reconnectInterval ?? 2_000);
    this.page = new Page(
      options.whenHidden ?? "pause",
      () => this.reconsider(),
      () => this.#phase === "waiting" && this.#wake(),
    );
    options.signal?.addEventListener("abort", this.#onAbort);
    // Deferred, so that a stream that is closed in the same turn (React's StrictMode) sends no request, and so that no
    // callback is called before `connect` returns.
    queueMicrotask(() => void this.#run());
  }

  readonly #onAbort = () => this.close();

  protected override release(): void {
    this.page.close();
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#attempt?.abort();
    this.#wake();
  }

  protected override onHello(hello: Hello): void {
    if (this.#options.heartbeat === undefined && hello.heartbeat > 0) this.#heartbeat = hello.heartbeat * 1000;
    super.onHello(hello);
  }

  /** Whether a connection may be open now. One that cannot be resumed is never closed for a hidden page. */
  protected get mayConnect(): boolean {
    return this.page.present || !this.#resumeUrl || this.#options.reconnect === false;
  }

  /** Called when no connection may be open. */
  protected idle(): void {
    this.setState("paused");
  }

  /** Must be called when `mayConnect` may have changed. */
  protected reconsider(): void {
    if (this.isClosed) return;
    if (this.mayConnect ? this.#phase === "idle" : this.#phase !== "active") this.#wake();
    else if (!this.mayConnect) this.#cutOff("pause");
  }

  async #run(): Promise<void> {
    if (this.#options.signal?.aborted) this.close();
    while (!this.isClosed) {
      if (!this.mayConnect) {
        this.#phase = "idle";
        this.idle();
        await this.#sleep();
        continue;
      }
      this.#phase = "active";
      this.setState("connecting");
      this.#cut = undefined;
      const opened = await this.#request().catch((error: unknown) => this.#failed(error));
      const ended = opened instanceof Response ? await this.#read(opened) : opened;
      if (this.isClosed) return;
      if (this.#cut !== "pause") await this.#after(ended);
    }
  }

  /** After a connection has ended: closes the stream, or waits for the next attempt. */
  async #after({ error, retryable, wait, opened }: Ended): Promise<void> {
    if (this.bye?.reconnect === false) return this.finish({ reason: "bye" });
    if (error && !retryable) return this.#fail(error);
    if (!this.#resumeUrl || this.#options.reconnect === false) {
      if (!error && !this.knowsEnd) return this.finish({ reason: "end" });
      // Without a response it is unknown whether the server has processed the request, so it is not sent again.
      if (error && !opened) return this.#fail(error);
      return this.#fail(new StreamError("truncated", "the stream ended before its last event", { cause: error }));
    }
    if (error) this.#failures += 1;
    if (error && this.#failures >= (this.#options.maxFailures ?? Infinity)) return this.#fail(error);
    if (this.bye?.reason === "expired") this.#refresh = true;
    const cap = this.#options.maxReconnectInterval ?? 30_000;
    let delay = backoff(Math.max(0, this.#failures - 1), this.#retry, cap);
    if (this.bye) delay = this.#retry; // the server has already randomized it
    if (wait !== undefined) delay = spread(wait, 0.2);
    if (error) call(this.callbacks.onError, error, { failures: this.#failures, retryIn: delay });
    this.#phase = "waiting";
    this.setState("waiting");
    await this.#sleep(delay);
  }

  #fail(error: StreamError): void {
    call(this.callbacks.onError, error, { failures: this.#failures, retryIn: undefined });
    this.finish({ reason: "failed", error });
  }

  /** Sends the request. Returns the response if it is a stream. */
  async #request(): Promise<Response | Ended> {
    const attempt = (this.#attempt = new AbortController());
    const timer = setTimeout(() => this.#cutOff("slow"), this.#options.connectTimeout ?? 60_000);
    try {
      const [url, init] = await this.#prepare().catch((cause: unknown) => {
        throw new StreamError("request", "failed to get the request's headers, token or ticket", { cause });
      });
      if (attempt.signal.aborted) throw attempt.signal.reason;
      const response = await (this.#options.fetch ?? fetch)(url, { ...init, signal: attempt.signal });
      if (response.status === 401 && this.#canRefresh()) {
        this.#refresh = this.#refreshed = true;
        void response.body?.cancel();
        clearTimeout(timer);
        return await this.#request();
      }
      return await this.#judge(response);
    } finally {
      clearTimeout(timer);
    }
  }

  async #prepare(): Promise<[URL, RequestInit]> {
    const options = this.#options;
    const asked: CredentialRequest = { refresh: this.#refresh };
    const headers = await resolveHeaders(options, asked);
    const url = new URL(this.#resumeUrl ?? this.#url);
    if (options.ticket) url.searchParams.set("ticket", await options.ticket(asked));
    this.#refresh = false;
    headers.set("Accept", "text/event-stream");
    // Encoded as UTF-8: `Headers` takes one character for each byte.
    const id = Array.from(new TextEncoder().encode(this.lastEventId), (byte) => String.fromCharCode(byte)).join("");
    if (id && FIELD_VALUE.test(id)) headers.set("Last-Event-ID", id);
    const init: RequestInit = { method: "GET", headers, cache: "no-store" };
    if (options.credentials) init.credentials = options.credentials;
    if (!this.#resumeUrl) {
      init.method = this.#method;
      init.body = encodeBody(options.body, headers);
    }
    return [url, init];
  }

  /** Whether to get new credentials after a 401. Once in a row; a body that is a stream cannot be sent again. */
  #canRefresh(): boolean {
    return this.#hasProviders() && !this.#refreshed && !(this.#options.body instanceof ReadableStream);
  }

  #hasProviders(): boolean {
    const { headers, token, ticket } = this.#options;
    return [headers, token, ticket].some((value) => typeof value === "function");
  }

  async #judge(response: Response): Promise<Response | Ended> {
    const { status, headers } = response;
    if (status !== 401) this.#refreshed = false;
    if (status === 200) {
      if (headers.get("Content-Type")?.split(";")[0]?.trim().toLowerCase() === "text/event-stream") return response;
      void response.body?.cancel();
      const type = headers.get("Content-Type") ?? "no Content-Type";
      return { retryable: false, error: new StreamError("content-type", `expected Content-Type text/event-stream, got ${type}`) };
    }
    if (status === 204) {
      this.finish({ reason: "complete" });
      return { retryable: false };
    }
    const retryAfter = parseRetryAfter(headers.get("Retry-After"), headers.get("Date"));
    const problem = await readProblem(response);
    const message = problem?.detail ?? problem?.title ?? `the server responded with status ${status}`;
    const error = new StreamError("http", message, { status, retryAfter, problem });
    return { error, retryable: isRetryable(status), wait: retryAfter };
  }

  /** Reads the response to its end. */
  async #read(response: Response): Promise<Ended> {
    const reader = response.body?.getReader();
    if (!reader) return { retryable: true, opened: true };
    this.#resumeUrl ??= resumeUrl(response, this.#url);
    this.beginConnection();
    this.#heartbeat = this.#options.heartbeat ?? 0;
    const since = performance.now();
    let events = 0;
    const isGood = () => events > 0 || performance.now() - since > GOOD_CONNECTION;
    const decoder = new Decoder(
      {
        onEvent: (event, hasId) => {
          events += 1;
          this.receive(event, hasId);
        },
        onRetry: (retry) => {
          this.#retry = boundedRetry(retry);
        },
        onComment: (comment) => {
          if (comment === "yeoul" && !this.#heartbeat) this.#heartbeat = this.#options.heartbeat ?? YEOUL_HEARTBEAT;
        },
      },
      this.lastEventId,
      this.#options.maxEventSize,
    );
    this.setState("open");
    call(this.callbacks.onOpen, response);
    const watchdog = new Watchdog(
      () => this.#heartbeat * MAX_SILENT_HEARTBEATS,
      () => this.#cutOff("silent"),
    );
    try {
      while (!this.isClosed) {
        watchdog.start();
        const { value, done } = await reader.read().finally(() => watchdog.stop());
        if (done || this.isClosed || this.#cut) break;
        decoder.feed(value);
        if (this.isClosed) break;
        this.lastEventId = decoder.lastEventId;
        await this.room();
      }
      // A server that accepts each connection and closes it at once must not be asked at full rate.
      if (!isGood()) this.#failures += 1;
      return { retryable: true, opened: true };
    } catch (error) {
      return { ...this.#failed(error), opened: true };
    } finally {
      watchdog.close();
      if (isGood()) this.#failures = 0;
      reader.cancel().catch(() => {}); // rejects if the connection has failed
    }
  }

  #cutOff(cut: Cut): void {
    this.#cut = cut;
    this.#attempt?.abort();
  }

  #failed(error: unknown): Ended {
    if (error instanceof StreamError) return { error, retryable: error.code === "request" && this.#hasProviders() };
    if (this.#cut === "slow") return transient("timeout", "the server did not respond in time", error);
    if (this.#cut === "silent") return transient("timeout", "the connection has been silent for too long", error);
    return transient("network", "the connection to the server failed", error);
  }

  /** Waits for the time, or without one until `#wake` is called. */
  async #sleep(ms?: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (ms !== undefined) timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
    this.#wake = () => {};
  }
}

/** Detects silent connections: calls `onSilence` after `limit` milliseconds of waiting, measured by the monotonic clock. */
class Watchdog {
  readonly #limit: () => number;
  readonly #onSilence: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #since: number | undefined;

  /** `limit`: 0 for none. */
  constructor(limit: () => number, onSilence: () => void) {
    this.#limit = limit;
    this.#onSilence = onSilence;
  }

  start(): void {
    this.#since = performance.now();
    // The timer keeps running between reads: setting a new one for each token would cost more.
    if (this.#timer === undefined) this.#watch();
  }

  stop(): void {
    this.#since = undefined;
  }

  close(): void {
    this.stop();
    clearTimeout(this.#timer);
  }

  #watch(): void {
    const limit = this.#limit();
    if (!limit || this.#since === undefined) {
      this.#timer = undefined;
      return;
    }
    const left = this.#since + limit - performance.now();
    if (left <= 0) return this.#onSilence();
    this.#timer = setTimeout(() => this.#watch(), left);
  }
}

/** The headers for a request, including the token. */
export async function resolveHeaders(
  { headers, token }: Pick<ConnectOptions, "headers" | "token">,
  asked: CredentialRequest,
): Promise<Headers> {
  const resolved = new Headers(await (typeof headers === "function" ? headers(asked) : headers));
  const bearer = await (typeof token === "function" ? token(asked) : token);
  if (bearer) resolved.set("Authorization", `Bearer ${bearer}`);
  return resolved;
}

function transient(code: "network" | "timeout", message: string, cause: unknown): Ended {
  return { error: new StreamError(code, message, { cause }), retryable: true };
}

/** The URL that resumes the stream that a request has started. Same origin only, because credentials are sent to it. */
function resumeUrl(response: Response, requested: URL): URL | undefined {
  const named = response.headers.get("Content-Location") ?? response.headers.get("Location");
  if (named === null) return undefined;
  const base = response.url || requested;
  if (!URL.canParse(named, base)) return undefined;
  const url = new URL(named, base);
  return url.origin === requested.origin ? url : undefined;
}

function encodeBody(body: BodyInit | object | undefined, headers: Headers): BodyInit | null {
  if (body == null) return null;
  const plain = Array.isArray(body) || [Object.prototype, null].includes(Object.getPrototypeOf(body) as object | null);
  if (typeof body === "string" || !plain) return body as BodyInit;
  if (!headers.has("Content-Type")) headers.set("Content-Type", "application/json");
  return JSON.stringify(body);
}

async function readProblem(response: Response): Promise<Problem | undefined> {
  const reader = response.body?.getReader();
  if (!reader) return undefined;
  const text = new TextDecoder();
  let read = "";
  try {
    while (read.length < MAX_PROBLEM) {
      const { value, done } = await reader.read();
      if (done) break;
      read += text.decode(value, { stream: true });
    }
    const problem = parseJson(read);
    return typeof problem === "object" && problem !== null ? (problem as Problem) : undefined;
  } catch {
    return undefined; // the status is known
  } finally {
    reader.cancel().catch(() => {});
  }
}
