import { call } from "./callback.js";
import type { StreamError } from "./errors.js";
import { isLastId, namesWork, parseJson, type Bye, type Gap, type Hello, type Reauth, type StreamEvent } from "./event.js";

/**
 * - `connecting`: a request is under way
 * - `open`: the stream is open
 * - `waiting`: the connection was lost, and the next attempt is scheduled
 * - `paused`: the connection is closed while the page is hidden
 * - `closed`: the stream is closed and will not be opened again
 *
 * If tabs share a connection, all of them have the state of that connection.
 */
export type State = "connecting" | "open" | "waiting" | "paused" | "closed";

/** Why a stream was closed. */
export interface Closed {
  /**
   * - `end`: the last event was received
   * - `complete`: the server answered 204: nothing follows
   * - `bye`: the server sent `stream.bye` with `reconnect: false`
   * - `client`: `close()` was called, the signal was aborted, or the iteration was left
   * - `failed`: see `error`
   */
  readonly reason: "end" | "complete" | "bye" | "client" | "failed";
  readonly error?: StreamError;
}

/** What follows a failed attempt. */
export interface Attempt {
  /** Consecutive failures, including this one. */
  readonly failures: number;
  /** Milliseconds until the next attempt; undefined if there is none. */
  readonly retryIn: number | undefined;
}

/** An exception thrown by a callback is reported as an uncaught error, and does not affect the stream. */
export interface Callbacks {
  /** Called for each event, except those about the stream. Without it, events are read with the async iterator. */
  onEvent?: (event: StreamEvent) => void;
  onOpen?: (response?: Response) => void;
  onState?: (state: State) => void;
  onHello?: (hello: Hello) => void;
  /** Events are missing: load the current state again. */
  onGap?: (gap: Gap) => void;
  onBye?: (bye: Bye) => void;
  /** The token expires soon. A `token` function is called again when the server has ended the stream. */
  onReauth?: (reauth: Reauth) => void;
  /** An attempt has failed, or the connection was lost. */
  onError?: (error: StreamError, attempt: Attempt) => void;
  onClose?: (closed: Closed) => void;
}

/** A stream that is being read. */
export interface EventStream extends AsyncIterable<StreamEvent> {
  readonly state: State;
  /** The position in the stream: the id of the last received event. */
  readonly lastEventId: string;
  /** False if the connection belongs to another tab (`share`). */
  readonly leads: boolean;
  /** Never rejects. */
  readonly closed: Promise<Closed>;
  close(): void;
}

// Events queued for the async iterator before reading from the connection stops.
const MAX_QUEUED = 256;
// Ids that are remembered to recognise duplicates.
const MAX_IDS = 1_000;

/** What all transports share: control events, duplicates and the end of the stream; callbacks and the iterator. */
export abstract class Reader implements EventStream {
  readonly closed: Promise<Closed>;
  lastEventId: string;
  protected bye: Bye | undefined;
  /** The ids name an answer or a relay, so the stream has an end. */
  protected finite = false;
  protected readonly callbacks: Callbacks;
  readonly #isEnd: ((event: StreamEvent) => boolean) | undefined;
  readonly #queue: StreamEvent[] = [];
  // Ids of this connection, and of earlier ones. Only events that repeat one of an earlier connection are duplicates.
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

  /** Closes the connection and removes listeners. Called once. */
  protected abstract release(): void;

  protected setState(state: State): void {
    if (this.#closed || state === this.#state) return;
    this.#state = state;
    call(this.callbacks.onState, state);
  }

  /** Must be called when a connection is opened: events that it repeats are dropped. */
  protected beginConnection(): void {
    for (const id of this.#ids) remember(this.#earlierIds, id);
    this.#ids = new Set();
    this.bye = undefined;
  }

  /** Processes one event. `hasId`: its block had an `id:` field. */
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

  /** Resolves when the queue of the iterator has room; undefined if it has room now. */
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

  /** Whether the last event can be recognised, by its id or by `isEnd`. */
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

  /** Calls the callback of a control event. False for other events. */
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
