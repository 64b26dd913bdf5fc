import { call } from "./callback.js";
import { Decoder } from "./decoder.js";
import { StreamError, type Problem } from "./errors.js";
import { parseJson, type Hello, type StreamEvent } from "./event.js";
import { Page, type WhenHidden } from "./page.js";
import { Reader, type Callbacks } from "./reader.js";
import { backoff, boundedRetry, isRetryable, parseRetryAfter, spread } from "./retry.js";

/** For functions that provide credentials. `refresh`: those before were refused, or have ended: get new ones. */
export interface CredentialRequest {
  readonly refresh: boolean;
}

/** A value, or a function that provides it for each request. */
export type Provided<T> = T | ((request: CredentialRequest) => T | Promise<T>);

export interface ConnectOptions extends Callbacks {
  /** By default POST where there is a body, otherwise GET. Only a GET is ever repeated. */
  method?: string;
  /** An object that `fetch` does not accept as a body is sent as JSON. */
  body?: BodyInit | object;
  headers?: Provided<HeadersInit>;
  /** Sent as `Authorization: Bearer …`. */
  token?: Provided<string | undefined>;
  /** Sent as `?ticket=`; a new one is asked for each request, since it is used once. */
  ticket?: (request: CredentialRequest) => string | Promise<string>;
  credentials?: RequestCredentials;
  fetch?: typeof fetch;
  signal?: AbortSignal;
  /** Where to begin: the id of the last event that was received before. */
  lastEventId?: string;
  /** Whether an event is the last one. Not needed for servers whose last id says so, as Yeoul's does. */
  isEnd?: (event: StreamEvent) => boolean;
  /** False: one connection only. */
  reconnect?: boolean;
  /** Milliseconds until the first attempt to reconnect, where the server has named no time. */
  reconnectInterval?: number;
  /** The longest time between two attempts, in milliseconds. */
  maxReconnectInterval?: number;
  /** Failures in a row, after which the stream is closed. */
  maxFailures?: number;
  /** Milliseconds until the response must have begun. */
  connectTimeout?: number;
  /**
   * The server's heartbeat in milliseconds; 0 for none. After two and a half times as long without a byte the connection
   * is taken for dead. By default what `stream.hello` says, 15 seconds on Yeoul's other streams, and none elsewhere.
   */
  heartbeat?: number;
  /** Characters of one event. */
  maxEventSize?: number;
  /**
   * `"pause"`: let the connection go while the page is hidden, and go on where it was. A request that cannot be resumed
   * stays. `"stay"`: keep it, for example where the answer stops when it has no reader.
   */
  whenHidden?: WhenHidden;
  /**
   * One connection for all tabs of this browser that share the address under this name: the name of the user, so that
   * users do not read each other's events. `true` where the browser's cookies say who that is. A tab that joins gets the newest
   * events that the connection has brought. Needs `onEvent`. Where the browser cannot do it, each tab has a connection of
   * its own.
   */
  share?: string | true;
}

// Heartbeats (of 15 s) of a server that says at the start of a stream that it is Yeoul.
const YEOUL_HEARTBEAT = 15_000;
const SILENT_HEARTBEATS = 2.5;
// A connection that has lived as long was a good one, also without events (milliseconds).
const GOOD_CONNECTION = 10_000;
// Bytes of an error response that are read.
const MAX_PROBLEM = 65_536;
// What an HTTP field may hold (RFC 9110, 5.5), after the id's UTF-8.
const FIELD_VALUE = /^[\x20-\x7e\x80-\xff]*$/;

type Cut = "pause" | "silent" | "slow";

/** How an attempt ended. */
interface Ended {
  error?: StreamError;
  /** Whether trying again may help. */
  passing: boolean;
  /** The stream had begun. */
  opened?: boolean;
  /** Milliseconds that the server asks to wait. */
  wait?: number | undefined;
}

/** Reads a stream with `fetch`, over as many connections as it takes. */
export class Connection extends Reader {
  readonly #options: ConnectOptions;
  readonly #url: URL;
  readonly #method: string;
  protected readonly page: Page;
  // Where the stream is resumed: the address itself, or what the answer to a POST names. None yet: it cannot be.
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
    // Not at once: an effect that React undoes in the same turn has asked for nothing, and callbacks come after this.
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

  /** Whether a connection may be opened, or stay open. What cannot be resumed stays. */
  protected get mayConnect(): boolean {
    return this.page.present || !this.#resumeUrl;
  }

  /** No connection may be open now. */
  protected idle(): void {
    this.setState("paused");
  }

  /** To be called when `mayConnect` may have changed. */
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

  /** What follows on a connection that has ended: the end, or a wait for the next. */
  async #after({ error, passing, wait, opened }: Ended): Promise<void> {
    if (this.bye?.reconnect === false) return this.finish({ reason: "bye" });
    if (error && !passing) return this.#fail(error);
    if (!this.#resumeUrl || this.#options.reconnect === false) {
      if (!error && !this.knowsEnd) return this.finish({ reason: "end" });
      // Without a response it is not known whether the request has started something.
      if (error && !opened) return this.#fail(error);
      return this.#fail(new StreamError("truncated", "the stream ended before its last event", { cause: error }));
    }
    if (error) this.#failures += 1;
    if (error && this.#failures >= (this.#options.maxFailures ?? Infinity)) return this.#fail(error);
    if (this.bye?.reason === "expired") this.#refresh = true;
    const cap = this.#options.maxReconnectInterval ?? 30_000;
    let delay = backoff(Math.max(0, this.#failures - 1), this.#retry, cap);
    if (this.bye) delay = this.#retry; // the server has drawn it at random
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

  /** Sends the request; the response, where it is a stream. */
  async #request(): Promise<Response | Ended> {
    const attempt = (this.#attempt = new AbortController());
    const timer = setTimeout(() => this.#cutOff("slow"), this.#options.connectTimeout ?? 60_000);
    try {
      const [url, init] = await this.#prepare().catch((cause: unknown) => {
        throw new StreamError("request", "the request's headers, token or ticket could not be had", { cause });
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
    // As UTF-8, of which a field's value takes each byte as one character.
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

  /** Whether new credentials can be had, and have not just been. A body that was read cannot be sent again. */
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
      return { passing: false, error: new StreamError("content-type", `expected text/event-stream, got ${type}`) };
    }
    if (status === 204) {
      this.finish({ reason: "complete" });
      return { passing: false };
    }
    const retryAfter = parseRetryAfter(headers.get("Retry-After"), headers.get("Date"));
    const problem = await readProblem(response);
    const message = problem?.detail ?? problem?.title ?? `the server responded with status ${status}`;
    const error = new StreamError("http", message, { status, retryAfter, problem });
    return { error, passing: isRetryable(status), wait: retryAfter };
  }

  /** Reads the response to its end. */
  async #read(response: Response): Promise<Ended> {
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
    const reader = response.body!.getReader();
    const watchdog = new Watchdog(
      () => this.#heartbeat * SILENT_HEARTBEATS,
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
      // One that ends at once, again and again, is no better than none.
      if (!isGood()) this.#failures += 1;
      return { passing: true, opened: true };
    } catch (error) {
      return { ...this.#failed(error), opened: true };
    } finally {
      watchdog.close();
      if (isGood()) this.#failures = 0;
      reader.cancel().catch(() => {}); // it may have failed already
    }
  }

  #cutOff(cut: Cut): void {
    this.#cut = cut;
    this.#attempt?.abort();
  }

  #failed(error: unknown): Ended {
    if (error instanceof StreamError) return { error, passing: error.code === "request" && this.#hasProviders() };
    if (this.#cut === "slow") return passing("timeout", "the server did not respond in time", error);
    if (this.#cut === "silent") return passing("timeout", "the connection has been silent for too long", error);
    return passing("network", "the connection to the server failed", error);
  }

  /** Waits, until it is woken where no time is given. */
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

/** Calls when nothing has come for too long. Counts only the time of waiting, on a monotonic clock. */
class Watchdog {
  readonly #limit: () => number;
  readonly #bite: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #since: number | undefined;

  /** `limit`: milliseconds, 0 for none. */
  constructor(limit: () => number, bite: () => void) {
    this.#limit = limit;
    this.#bite = bite;
  }

  start(): void {
    this.#since = performance.now();
    // One timer runs on: to set one for each token would cost more than to look again.
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
    if (left <= 0) return this.#bite();
    this.#timer = setTimeout(() => this.#watch(), left);
  }
}

/** The headers of a request, with the token. */
export async function resolveHeaders(
  { headers, token }: Pick<ConnectOptions, "headers" | "token">,
  asked: CredentialRequest,
): Promise<Headers> {
  const resolved = new Headers(await (typeof headers === "function" ? headers(asked) : headers));
  const bearer = await (typeof token === "function" ? token(asked) : token);
  if (bearer) resolved.set("Authorization", `Bearer ${bearer}`);
  return resolved;
}

function passing(code: "network" | "timeout", message: string, cause: unknown): Ended {
  return { error: new StreamError(code, message, { cause }), passing: true };
}

/** Where the stream that a request has started can be read. Of the same origin only: the credentials are sent there. */
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
    return undefined; // the status says enough
  } finally {
    reader.cancel().catch(() => {});
  }
}
