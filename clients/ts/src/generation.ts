import { call } from "./callback.js";
import { Connection, resolveHeaders, type ConnectOptions } from "./connection.js";
import { partReader, type Dialect, type Finish, type Part, type PartReader } from "./dialects.js";
import { StreamError } from "./errors.js";
import type { StreamEvent } from "./event.js";
import type { Closed, EventStream, State } from "./reader.js";
import { isRetryable } from "./retry.js";

export interface GenerateOptions extends Omit<ConnectOptions, "onEvent" | "onClose" | "isEnd"> {
  /** Default: the dialect named by the response or the URL, else `json`. */
  dialect?: Dialect;
  onPart?: (part: Part) => void;
  /** Called with the text so far, and the text that was added. */
  onText?: (text: string, added: string) => void;
  onFinish?: (finish: Finish) => void;
}

// Characters of one answer, far more than models generate.
const MAX_ANSWER = 64 * 1024 * 1024;

/** An answer of a model. Each iteration yields all parts from the first one on. */
export class Generation implements AsyncIterable<Part> {
  /** Resolves when the answer has ended; never rejects. `incomplete` if it was cut and cannot be resumed. */
  readonly finished: Promise<Finish>;
  readonly parts: Part[] = [];
  text = "";
  /** How the answer ended; undefined while it is running. */
  finish: Finish | undefined;
  /** The URL of the answer (`/generations/<id>`), if the server has sent it. */
  location: string | undefined;
  readonly #url: URL;
  readonly #options: GenerateOptions;
  readonly #stream: EventStream;
  #read: PartReader;
  #wake: () => void = () => {};

  constructor(url: string | URL, options: GenerateOptions = {}) {
    this.#options = options;
    this.#url = new URL(url, globalThis.location?.href);
    this.#read = partReader(options.dialect ?? dialectOf(this.#url) ?? "json");
    this.#stream = new Connection(this.#url, {
      ...options,
      isEnd: () => this.finish !== undefined,
      onOpen: (response) => {
        if (response) this.#onOpen(response);
        call(options.onOpen, response);
      },
      onEvent: (event) => this.#onEvent(event),
    });
    this.finished = this.#stream.closed.then((closed) => this.#onClosed(closed));
  }

  /** The state of the connection. */
  get connection(): State {
    return this.#stream.state;
  }

  /** Stops reading. The server's disconnect policy decides whether the answer goes on; see `stop`. */
  close(): void {
    this.#stream.close();
  }

  /** Stops the answer at the server, which keeps the text so far. Throws StreamError if the server refuses. */
  async stop(): Promise<void> {
    if (this.finish) return;
    if (this.location === undefined) return this.close();
    const { fetch: send = fetch, credentials } = this.#options;
    const headers = await resolveHeaders(this.#options, { refresh: false });
    const response = await send(this.location, { method: "DELETE", headers, ...(credentials && { credentials }) });
    void response.body?.cancel();
    if (!response.ok && response.status !== 404) {
      throw new StreamError("http", `the server refused to stop the answer: status ${response.status}`, { status: response.status });
    }
    await this.finished;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Part, void, undefined> {
    for (let next = 0; ; ) {
      const part = this.parts[next];
      if (part) {
        next += 1;
        yield part;
        if (part.type === "finish") return;
      } else {
        await new Promise<void>((resolve) => {
          const wake = this.#wake;
          this.#wake = () => {
            wake();
            resolve();
          };
        });
      }
    }
  }

  #onOpen(response: Response): void {
    const { headers } = response;
    const base = response.url || this.#url;
    const location = headers.get("Location");
    if (location !== null && URL.canParse(location, base)) {
      const url = new URL(location, base);
      // Same origin only, because `stop` sends credentials to it.
      if (url.origin === this.#url.origin) this.location ??= url.href;
    }
    const content = headers.get("Content-Location");
    if (this.#options.dialect || this.parts.length || content === null || !URL.canParse(content, base)) return;
    const dialect = dialectOf(new URL(content, base));
    if (dialect) this.#read = partReader(dialect);
  }

  #onEvent(event: StreamEvent): void {
    const part = this.#read(event);
    if (!part || this.finish) return;
    if (part.type === "text" && this.text.length + part.text.length > MAX_ANSWER) {
      this.#add({ type: "finish", finish: { state: "incomplete", kind: "too-large", message: "the answer is larger than 64 Mi characters" } });
    } else {
      this.#add(part);
    }
  }

  #onClosed({ error, reason }: Closed): Finish {
    if (!this.finish) {
      const message = error?.message ?? (reason === "client" ? "the stream was closed by the client" : "the stream ended before its last event");
      const refused = error?.code === "http" && !this.parts.length;
      const finish: Finish = {
        state: refused ? "failed" : "incomplete",
        message,
        ...(error && { kind: error.code }),
        ...(error?.status !== undefined && { retryable: isRetryable(error.status) }),
        ...(error?.retryAfter !== undefined && { retryAfter: error.retryAfter }),
      };
      this.#add({ type: "finish", finish });
    }
    return this.finish!;
  }

  #add(part: Part): void {
    this.parts.push(part);
    const { onPart, onText, onFinish } = this.#options;
    if (part.type === "text") this.text += part.text;
    if (part.type === "finish") this.finish = part.finish;
    const wake = this.#wake;
    this.#wake = () => {};
    wake();
    call(onPart, part);
    if (part.type === "text") call(onText, this.text, part.text);
    if (part.type === "finish") call(onFinish, part.finish);
  }
}

/**
 * Starts an answer and reads it to its end, reconnecting as needed. With a body the request is a POST, which is sent once.
 * To read an answer that was started before, pass the URL of its stream (`/generations/<id>/stream`).
 *
 * Throws TypeError for an invalid URL.
 */
export function generate(url: string | URL, options: GenerateOptions = {}): Generation {
  return new Generation(url, options);
}

function dialectOf(url: URL): Dialect | undefined {
  const name = url.searchParams.get("dialect") ?? "";
  return ["plain", "json", "envelope", "openai"].includes(name) ? (name as Dialect) : undefined;
}
