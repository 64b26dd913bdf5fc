import { call } from "./callback.js";
import type { StreamError } from "./errors.js";
import { isLastId, namesWork, parseJson, type Bye, type Gap, type Hello, type Reauth, type StreamEvent } from "./event.js";

/**
 * - `connecting`: a request is under way
 * - `open`: events can come
 * - `waiting`: the connection was lost; the next attempt follows after a while
 * - `paused`: the page is hidden, and the connection was let go
 * - `closed`: for good
 *
 * Where tabs share a connection, it is that of the tab that has it.
 */
export type State = "connecting" | "open" | "waiting" | "paused" | "closed";

/** Why a stream is closed for good. */
export interface Closed {
  /**
   * - `end`: its last event has come
   * - `complete`: the server says that nothing follows (204)
   * - `bye`: the server has sent this reader away
   * - `client`: `close()`, the signal, or the end of the iteration
   * - `failed`: see `error`
   */
  readonly reason: "end" | "complete" | "bye" | "client" | "failed";
  readonly error?: StreamError;
}

/** What a failed attempt leads to. */
export interface Attempt {
  /** Failures in a row, this one included. */
  readonly failures: number;
  /** Milliseconds until the next attempt, `undefined` where none follows. */
  readonly retryIn: number | undefined;
}

/** Called as things happen. An exception that is thrown in one is reported as uncaught, and changes nothing here. */
export interface Callbacks {
  /** Without it, events wait for the async iterator. */
  onEvent?: (event: StreamEvent) => void;
  onOpen?: (response?: Response) => void;
  onState?: (state: State) => void;
  onHello?: (hello: Hello) => void;
  /** Events are missing: load the state anew. */
  onGap?: (gap: Gap) => void;
  onBye?: (bye: Bye) => void;
  /** The token ends soon. A `token` that is a function is asked anew when the server has ended the stream. */
  onReauth?: (reauth: Reauth) => void;
  /** An attempt failed, or a connection was lost. */
  onError?: (error: StreamError, attempt: Attempt) => void;
  onClose?: (closed: Closed) => void;
}

/** A stream that is being read. */
export interface EventStream extends AsyncIterable<StreamEvent> {
  readonly state: State;
  /** The position: the id of the last event that was received. */
  readonly lastEventId: string;
  /** Whether the connection is this tab's own, rather than that of another tab (`share`). */
  readonly leads: boolean;
  /** Never rejects. */
  readonly closed: Promise<Closed>;
  close(): void;
}

// Events that wait for the async iterator, before no more is read from the connection.
const MAX_QUEUED = 256;
// Ids that are remembered to tell duplicates.
const MAX_IDS = 1_000;

/** What all ways of reading have in common: events in, callbacks and the iterator out. */
export abstract class Reader implements EventStream {
  readonly closed: Promise<Closed>;
  lastEventId: string;
  protected bye: Bye | undefined;
  /** The ids name work, whose stream has an end. */
  protected finite = false;
  protected readonly callbacks: Callbacks;
  readonly #isEnd: ((event: StreamEvent) => boolean) | undefined;
  readonly #queue: StreamEvent[] = [];
  // Ids of this connection and of those before it. Within one connection every event counts, whatever its id.
  #ids = new Set<string>();
  #earlierIds = new Set<string>();
  #state: State = "connecting";
  #closed: Closed | undefined;
  #wake: () => void = () => {};
  #drained: () => void = () => {};
  #resolveClosed: (closed: Closed) => void = () => {};

  constructor(callbacks: Callbacks, lastEventId = "", isEnd?: (event: StreamEvent) => boolean) {
    this.callbacks = callbacks;
    this.lastEventId = lastEventId;
    this.#isEnd = isEnd;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  get leads(): boolean {
    return true;
  }

  get state(): State {
    return this.#state;
  }

  close(): void {
    this.finish({ reason: "client" });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StreamEvent, void, undefined> {
    try {
      for (;;) {
        const event = this.#queue.shift();
        if (event) {
          this.#drained();
          yield event;
        } else if (this.#closed) {
          if (this.#closed.error) throw this.#closed.error;
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } finally {
      this.close();
    }
  }

  /** Ends what the subclass has open. Called once. */
  protected abstract release(): void;

  protected setState(state: State): void {
    if (this.#closed || state === this.#state) return;
    this.#state = state;
    call(this.callbacks.onState, state);
  }

  /** A new connection begins: what it repeats is dropped. */
  protected beginConnection(): void {
    for (const id of this.#ids) remember(this.#earlierIds, id);
    this.#ids = new Set();
    this.bye = undefined;
  }

  /** Takes one event. `hasId`: its block had an id of its own. */
  protected receive(event: StreamEvent, hasId: boolean): void {
    if (this.#closed) return;
    this.lastEventId = event.id;
    if (namesWork(event.id)) this.finite = true;
    if (!this.#control(event) && !(hasId && this.#isDuplicate(event.id))) this.deliver(event);
    if (event.type === "stream.end" || isLastId(event.id) || this.#isEnd?.(event)) this.finish({ reason: "end" });
  }

  protected deliver(event: StreamEvent): void {
    if (this.callbacks.onEvent) {
      call(this.callbacks.onEvent, event);
    } else {
      this.#queue.push(event);
      this.#wake();
    }
  }

  /** Resolves when the iterator has taken enough for more to be read; `undefined` where it can be read now. */
  protected room(): Promise<void> | undefined {
    if (this.#queue.length < MAX_QUEUED || this.#closed) return undefined;
    return new Promise((resolve) => {
      this.#drained = () => {
        if (this.#queue.length < MAX_QUEUED || this.#closed) resolve();
      };
    });
  }

  protected onHello(hello: Hello): void {
    call(this.callbacks.onHello, hello);
  }

  protected get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** Whether the end can be told from a cut: by the ids, or by `isEnd`. */
  protected get knowsEnd(): boolean {
    return this.finite || this.#isEnd !== undefined;
  }

  protected finish(closed: Closed): void {
    if (this.#closed) return;
    this.setState("closed");
    this.#closed = closed;
    this.release();
    this.#wake();
    this.#drained();
    this.#resolveClosed(closed);
    call(this.callbacks.onClose, closed);
  }

  /** Whether the event is about the stream. */
  #control(event: StreamEvent): boolean {
    const data = event.type.startsWith("stream.") ? (parseJson(event.data) ?? {}) : undefined;
    switch (event.type) {
      case "stream.hello":
        this.onHello(data as Hello);
        return true;
      case "stream.gap":
        call(this.callbacks.onGap, data as Gap);
        return true;
      case "stream.reauth":
        call(this.callbacks.onReauth, data as Reauth);
        return true;
      case "stream.bye":
        this.bye = data as Bye;
        call(this.callbacks.onBye, this.bye);
        return true;
      case "stream.end":
        return true;
      default:
        return false;
    }
  }

  #isDuplicate(id: string): boolean {
    if (id === "") return false;
    if (this.#earlierIds.has(id)) return true;
    remember(this.#ids, id);
    return false;
  }
}

function remember(ids: Set<string>, id: string): void {
  ids.add(id);
  if (ids.size > MAX_IDS) for (const oldest of ids) return void ids.delete(oldest);
}
