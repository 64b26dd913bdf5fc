import { call } from "./callback.js";
import { Connection, resolveHeaders, type ConnectOptions } from "./connection.js";
import { partReader, type Dialect, type Finish, type Part, type PartReader } from "./dialects.js";
import { StreamError } from "./errors.js";
import type { StreamEvent } from "./event.js";
import type { Closed, EventStream, State } from "./reader.js";
import { isRetryable } from "./retry.js";

export interface GenerateOptions extends Omit<ConnectOptions, "onEvent" | "onClose" | "isEnd"> {
  /** By default what the response or the address says, else `json`. */
  dialect?: Dialect;
  onPart?: (part: Part) => void;
  /** The text so far, and what has just been added to it. */
  onText?: (text: string, added: string) => void;
  onFinish?: (finish: Finish) => void;
}

// Characters of one answer: far more than a model writes.
const MAX_ANSWER = 64 * 1024 * 1024;

/** An answer that is being read. It is iterated part by part, from its beginning, as often as is needed. */
export class Generation implements AsyncIterable<Part> {
  /** Never rejects. An answer that is cut and cannot be resumed is `incomplete`, never `done`. */
  readonly finished: Promise<Finish>;
  readonly parts: Part[] = [];
  text = "";
  /** How it ended, once it has. */
  finish: Finish | undefined;
  /** The address of the answer as a resource, where the server names one. */
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

  /** Of the connection. */
  get connection(): State {
    return this.#stream.state;
  }

  /** Stops reading. What the server does then is its policy for answers without readers; see `stop`. */
  close(): void {
    this.#stream.close();
  }

  /** Stops the answer: the server ends it, and keeps the text so far. Throws StreamError where the server refuses. */
  async stop(): Promise<void> {
    if (this.finish) return;
    if (this.location === undefined) return this.close();
    const { fetch: send = fetch, credentials } = this.#options;
    const headers = await resolveHeaders(this.#options, { refresh: false });
    const response = await send(this.location, { method: "DELETE", headers, ...(credentials && { credentials }) });
    void response.body?.cancel();
    if (!response.ok && response.status !== 404) {
      throw new StreamError("http", `the server did not stop the answer: ${response.status}`, response);
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
      // The credentials are sent there.
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
      this.#add({ type: "finish", finish: { state: "incomplete", kind: "too-large", message: "the answer is too large" } });
    } else {
      this.#add(part);
    }
  }

  #onClosed({ error, reason }: Closed): Finish {
    if (!this.finish) {
      const message = error?.message ?? (reason === "client" ? "it is no longer read" : "its stream ended before its end");
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
 * Asks for an answer, and reads it to its end over as many connections as it takes. With a body it is asked for once, by
 * a POST; the address of an answer's stream (`/generations/<id>/stream`) reads one that was started before.
 */
export function generate(url: string | URL, options: GenerateOptions = {}): Generation {
  return new Generation(url, options);
}

function dialectOf(url: URL): Dialect | undefined {
  const name = url.searchParams.get("dialect") ?? "";
  return ["plain", "json", "envelope", "openai"].includes(name) ? (name as Dialect) : undefined;
}
