import { Connection, type ConnectOptions } from "./connection.js";
import { StreamError, type ErrorCode, type StreamErrorDetails } from "./errors.js";
import type { StreamEvent } from "./event.js";
import { call } from "./callback.js";
import type { Closed, State } from "./reader.js";

// Limits of what is kept for tabs that join: events, and characters of their data.
const MAX_KEPT = 1_000;
const MAX_KEPT_SIZE = 4 * 1024 * 1024;
// Milliseconds to wait after getting the lock: the last messages of the previous tab (such as `closed`) may arrive later.
const LAST_MESSAGES = 100;

/**
 * An event as it is passed between tabs. `number` counts the events of the line that the tabs continue one after another; a
 * control event has the number of the event before it.
 */
interface Shared {
  readonly number: number;
  readonly event: StreamEvent;
  readonly hasId: boolean;
}

type Message =
  /** A tab has taken over the connection. */
  | { readonly kind: "lead" }
  /** A tab asks for the events after its position. */
  | { readonly kind: "join"; readonly tab: string; readonly line: string; readonly number: number; readonly id: string }
  | {
      readonly kind: "welcome";
      readonly tab: string;
      readonly line: string;
      readonly number: number;
      readonly id: string;
      readonly state: State;
      readonly missed: Shared[];
      /** Events before `missed` are no longer kept. */
      readonly gap: boolean;
    }
  | ({ readonly kind: "event" } & Shared)
  | { readonly kind: "state"; readonly state: State }
  | { readonly kind: "closed"; readonly reason: Closed["reason"]; readonly error?: SharedError | undefined };

interface SharedError extends StreamErrorDetails {
  readonly code: ErrorCode;
  readonly message: string;
}

/**
 * One connection for all tabs. The tab that holds a Web Lock has the connection and passes each event to the others. When it
 * is closed or hidden, the browser grants the lock to the next tab, which resumes at the last event. Hidden tabs do not
 * request the lock (unless `whenHidden` is `"stay"`), because browsers may freeze them.
 */
export class SharedConnection extends Connection {
  static get isSupported(): boolean {
    return typeof BroadcastChannel === "function" && globalThis.navigator?.locks !== undefined;
  }

  readonly #name: string;
  readonly #tab = crypto.randomUUID();
  readonly #channel: BroadcastChannel;
  #line = crypto.randomUUID() as string;
  #number = 0;
  #kept: Shared[] = [];
  #keptSize = 0;
  // The number of the newest event that was dropped from `#kept`.
  #dropped = 0;
  // Whether this tab has all events so far, so that it can take the next ones.
  #isWelcome = false;
  #leads = false;
  // Defined while the lock is requested or held.
  #claim: AbortController | undefined;

  constructor(url: string | URL, options: ConnectOptions) {
    super(url, options);
    const address = new URL(url, globalThis.location?.href);
    this.#name = `yeoul:${options.share === true ? "" : options.share} ${address}`;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#onMessage(data as Message);
    this.reconsider();
  }

  override get leads(): boolean {
    return this.#leads;
  }

  protected override get mayConnect(): boolean {
    return this.#leads;
  }

  protected override idle(): void {
    if (!this.page.present) super.idle();
  }

  protected override reconsider(): void {
    if (this.isClosed) return;
    if (this.page.present && !this.#claim) {
      this.#join();
      this.#claimLead();
    } else if (!this.page.present) {
      this.#yield();
    }
    super.reconsider();
  }

  protected override release(): void {
    super.release();
    this.#yield();
    this.#channel.close();
  }

  protected override setState(state: State): void {
    super.setState(state);
    if (this.#leads && state !== "closed") this.#post({ kind: "state", state });
  }

  protected override receive(event: StreamEvent, hasId: boolean): void {
    if (!this.#leads) return;
    if (!isControl(event)) this.#number += 1;
    const shared = { number: this.#number, event, hasId };
    this.#keep(shared);
    this.#post({ kind: "event", ...shared });
    super.receive(event, hasId);
  }

  protected override finish(closed: Closed): void {
    if (this.#leads && closed.reason !== "client" && !this.isClosed) {
      const { code, message, status, retryAfter, problem } = closed.error ?? {};
      const error = code && { code, message: message ?? "", status, retryAfter, problem };
      this.#post({ kind: "closed", reason: closed.reason, error } as Message);
    }
    super.finish(closed);
  }

  /** Requests the lock, and holds it until `#yield`. */
  #claimLead(): void {
    const claim = (this.#claim = new AbortController());
    const { signal } = claim;
    const lead = () =>
      new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve());
        const begin = () => {
          if (signal.aborted) return resolve();
          this.#leads = true;
          this.#post({ kind: "lead" });
          super.reconsider();
        };
        if (this.#isWelcome) setTimeout(begin, LAST_MESSAGES);
        else begin();
      });
    navigator.locks.request(this.#name, { signal }, lead).catch(() => {}); // aborted before it was granted
  }

  #yield(): void {
    this.#leads = false;
    this.#isWelcome = false;
    this.#claim?.abort();
    this.#claim = undefined;
  }

  #join(): void {
    this.#isWelcome = false;
    this.#post({ kind: "join", tab: this.#tab, line: this.#line, number: this.#number, id: this.lastEventId });
  }

  #post(message: Message): void {
    if (!this.isClosed) this.#channel.postMessage(message);
  }

  #onMessage(message: Message): void {
    if (this.isClosed) return;
    if (message.kind === "join") {
      if (this.#leads) this.#welcome(message);
      return;
    }
    if (this.#leads) return;
    switch (message.kind) {
      case "lead":
        return this.#join();
      case "welcome":
        if (message.tab === this.#tab) this.#onWelcome(message);
        return;
      case "event":
        if (this.#isWelcome) this.#take(message);
        return;
      case "state":
        return super.setState(message.state);
      case "closed": {
        const { reason, error } = message;
        return super.finish(error ? { reason, error: new StreamError(error.code, error.message, error) } : { reason });
      }
    }
  }

  /** Sends a tab the events that it has missed. */
  #welcome({ tab, line, number, id }: Message & { kind: "join" }): void {
    const kept = this.#kept;
    let missed = kept; // a tab without a position gets all of them
    let gap = false;
    if (line === this.#line) {
      missed = kept.filter((shared) => shared.number > number);
      gap = number < this.#dropped;
    } else if (id !== "") {
      const place = kept.findIndex(({ event }) => event.id === id);
      const isHere = id === this.lastEventId;
      missed = isHere ? [] : kept.slice(place + 1);
      gap = place < 0 && !isHere;
    }
    const state = { line: this.#line, number: this.#number, id: this.lastEventId, state: this.state };
    this.#post({ kind: "welcome", tab, missed, gap, ...state });
  }

  #onWelcome({ line, number, id, state, missed, gap }: Message & { kind: "welcome" }): void {
    // Events that this tab has already received are dropped by their ids.
    this.beginConnection();
    if (gap) {
      const oldest = missed[0]?.event.id ?? null;
      call(this.callbacks.onGap, { requested: this.lastEventId || null, oldest, reason: "tabs" });
    }
    if (line !== this.#line) {
      this.#line = line;
      this.#kept = [];
      this.#keptSize = 0;
      this.#dropped = number - missed.length;
    }
    this.#isWelcome = true;
    super.setState(state);
    for (const shared of missed) this.#take(shared);
    this.#number = number;
    if (!this.isClosed) this.lastEventId = id;
  }

  /** Processes an event of the tab that has the connection. */
  #take(shared: Shared): void {
    this.#number = shared.number;
    this.#keep(shared);
    super.receive(shared.event, shared.hasId);
  }

  #keep(shared: Shared): void {
    if (isControl(shared.event)) return;
    this.#kept.push({ number: shared.number, event: shared.event, hasId: shared.hasId });
    this.#keptSize += shared.event.data.length;
    while (this.#kept.length > MAX_KEPT || this.#keptSize > MAX_KEPT_SIZE) {
      const { event, number } = this.#kept.shift()!;
      this.#keptSize -= event.data.length;
      this.#dropped = number;
    }
  }
}

function isControl(event: StreamEvent): boolean {
  return event.type.startsWith("stream.");
}
