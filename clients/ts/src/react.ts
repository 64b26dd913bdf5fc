import { useCallback, useEffect, useRef, useState, type RefObject } from "react";

import { connect } from "./connect.js";
import type { ConnectOptions } from "./connection.js";
import type { Finish, Part } from "./dialects.js";
import type { StreamError } from "./errors.js";
import { parseJson, type Gap, type StreamEvent } from "./event.js";
import { generate, type GenerateOptions, type Generation } from "./generation.js";
import type { Closed, State } from "./reader.js";

/** An event with its data read. `id` is never empty, so that it can be a key. */
export interface ReceivedEvent<T = unknown> {
  readonly id: string;
  readonly type: string;
  /** The JSON value, or the text where it is not JSON. */
  readonly data: T;
}

export interface UseSSEOptions {
  endpoint: string;
  /** Sent as `Authorization: Bearer …`. */
  token?: string | undefined;
  /** Called whenever the stream has opened, after each reconnect too. */
  onConnect?: () => void;
  onError?: (error: StreamError) => void;
  /** False: one connection only. */
  reconnect?: boolean;
  /** Milliseconds until the first attempt to reconnect, where the server has named no time. */
  reconnectInterval?: number;
  /** The newest events that are kept. */
  maxEvents?: number;
}

// Events that a hook keeps unless another number is given.
const MAX_EVENTS = 1_000;

/** The events of an endpoint, newest last, and whether the stream is open. */
export function useSSE<T = unknown>(options: UseSSEOptions): { events: ReceivedEvent<T>[]; isConnected: boolean } {
  const { endpoint, token, reconnect, reconnectInterval, maxEvents, onConnect, onError } = options;
  const { events, state } = useStream<T>(
    endpoint,
    {
      ...(token !== undefined && { token }),
      ...(reconnect !== undefined && { reconnect }),
      ...(reconnectInterval !== undefined && { reconnectInterval }),
      ...(onError && { onError }),
      ...(onConnect && { onOpen: () => onConnect() }),
    },
    [token, reconnect, reconnectInterval],
    maxEvents,
  );
  return { events, isConnected: state === "open" };
}

export interface UseTopicOptions extends Omit<ConnectOptions, "method" | "body" | "onEvent" | "isEnd" | "signal"> {
  /** Where the server is; by default the origin of the page. */
  baseUrl?: string;
  onEvent?: (event: StreamEvent) => void;
  /** The newest events that are kept. */
  maxEvents?: number;
}

export interface UseTopicResult<T> {
  events: ReceivedEvent<T>[];
  isConnected: boolean;
  state: State;
  /** The last gap: events are missing before those that came after it. */
  gap: Gap | undefined;
  /** Why the stream is closed for good, once it is. */
  closed: Closed | undefined;
}

/**
 * The events of one topic, or of several over one connection. Other options than callbacks are those of the first render;
 * a token that changes is a function.
 */
export function useTopic<T = unknown>(topic: string | readonly string[], options: UseTopicOptions = {}): UseTopicResult<T> {
  const { baseUrl = "", maxEvents, ...rest } = options;
  const topics = typeof topic === "string" ? [topic] : topic;
  const url =
    topics.length === 1
      ? `${baseUrl}/topics/${topics[0]!.split("/").map(encodeURIComponent).join("/")}`
      : `${baseUrl}/stream?${new URLSearchParams(topics.map((one) => ["topic", one])).toString()}`;
  const stream = useStream<T>(url, rest, [], maxEvents);
  return { ...stream, isConnected: stream.state === "open" };
}

export interface UseGenerationResult {
  text: string;
  /** Named events beside the text, the newest of each name: `status`, `sources`. */
  notes: Readonly<Record<string, unknown>>;
  state: "idle" | "running" | Finish["state"];
  /** How it ended, once it has. */
  finish: Finish | undefined;
  /** Of the connection. */
  connection: State;
  /** Asks anew; an answer that is still read is no longer read. `url`: another address than the hook's. */
  start: (body?: GenerateOptions["body"], url?: string) => Generation;
  /** Stops the answer at the server; the text so far stays. */
  stop: () => Promise<void>;
}

interface Shown {
  text: string;
  notes: Readonly<Record<string, unknown>>;
  finish: Finish | undefined;
  connection: State;
  isStarted: boolean;
}

const NOTHING: Shown = { text: "", notes: {}, finish: undefined, connection: "closed", isStarted: false };

/** An answer that is asked for with `start`, never by rendering. When the component goes, it is no longer read. */
export function useGeneration(url: string, options: GenerateOptions = {}): UseGenerationResult {
  const [shown, setShown] = useState(NOTHING);
  const latest = useLatest(options);
  const current = useRef<Generation>(undefined);

  useEffect(() => () => current.current?.close(), []);

  const start = useCallback(
    (body?: GenerateOptions["body"], address = url): Generation => {
      current.current?.close();
      setShown({ ...NOTHING, connection: "connecting", isStarted: true });
      const update = (change: (before: Shown) => Partial<Shown>) => {
        if (current.current === generation) setShown((before) => ({ ...before, ...change(before) }));
      };
      const generation: Generation = generate(address, {
        ...latest.current,
        ...(body !== undefined && { body }),
        onState: (connection) => {
          update(() => ({ connection }));
          latest.current.onState?.(connection);
        },
        onPart: (part: Part) => {
          if (part.type === "text") update(() => ({ text: generation.text }));
          if (part.type === "note") update(({ notes }) => ({ notes: { ...notes, [part.name]: part.data } }));
          if (part.type === "finish") update(() => ({ finish: part.finish }));
          latest.current.onPart?.(part);
        },
        onText: (text, added) => latest.current.onText?.(text, added),
        onFinish: (finish) => latest.current.onFinish?.(finish),
      });
      current.current = generation;
      return generation;
    },
    [url, latest],
  );
  const stop = useCallback(async () => current.current?.stop(), []);

  const { text, notes, finish, connection, isStarted } = shown;
  return { text, notes, finish, connection, start, stop, state: finish?.state ?? (isStarted ? "running" : "idle") };
}

interface Stream<T> {
  events: ReceivedEvent<T>[];
  state: State;
  gap: Gap | undefined;
  closed: Closed | undefined;
}

/** A stream for as long as the component is there. Callbacks may be other ones in each render. */
function useStream<T>(
  url: string,
  options: Omit<ConnectOptions, "isEnd">,
  dependencies: unknown[],
  maxEvents = MAX_EVENTS,
): Stream<T> {
  const empty: Stream<T> = { events: [], state: "connecting", gap: undefined, closed: undefined };
  const [stream, setStream] = useState(empty);
  const latest = useLatest(options);

  useEffect(() => {
    let received: ReceivedEvent<T>[] = [];
    let count = 0;
    let isGone = false;
    const update = (change: (before: Stream<T>) => Partial<Stream<T>>) => {
      if (!isGone) setStream((before) => ({ ...before, ...change(before) }));
    };
    // What comes in one piece is shown by one render.
    const flush = () => {
      const added = received;
      received = [];
      update(({ events }) => ({ events: [...events, ...added].slice(-maxEvents) }));
    };
    setStream(empty);
    const connection = connect(url, {
      ...latest.current,
      onEvent: (event) => {
        count += 1;
        if (received.length === 0) queueMicrotask(flush);
        const value = parseJson(event.data);
        const data = (value === undefined ? event.data : value) as T;
        received.push({ id: event.id || `event-${count}`, type: event.type, data });
        latest.current.onEvent?.(event);
      },
      onState: (state) => {
        update(() => ({ state }));
        if (!isGone) latest.current.onState?.(state);
      },
      onGap: (gap) => {
        update(() => ({ gap }));
        latest.current.onGap?.(gap);
      },
      onClose: (closed) => {
        update(() => ({ closed }));
        if (!isGone) latest.current.onClose?.(closed);
      },
      onOpen: (response) => latest.current.onOpen?.(response),
      onError: (error, attempt) => latest.current.onError?.(error, attempt),
      onHello: (hello) => latest.current.onHello?.(hello),
      onBye: (bye) => latest.current.onBye?.(bye),
      onReauth: (reauth) => latest.current.onReauth?.(reauth),
    });
    return () => {
      isGone = true;
      connection.close();
    };
  }, [url, maxEvents, ...dependencies]);

  return stream;
}

/** The value of the last render, for what runs between renders. */
function useLatest<V>(value: V): RefObject<V> {
  const ref = useRef(value);
  useEffect(() => {
    ref.current = value;
  });
  return ref;
}
