import { useCallback, useEffect, useRef, useState, type RefObject } from "react";

import { connect } from "./connect.js";
import type { ConnectOptions } from "./connection.js";
import type { Finish, Part } from "./dialects.js";
import type { StreamError } from "./errors.js";
import { parseJson, type Gap, type StreamEvent } from "./event.js";
import { generate, type GenerateOptions, type Generation } from "./generation.js";
import type { Closed, State } from "./reader.js";

/** An event with parsed data. `id` is never empty, so that it can be used as a key. */
export interface ReceivedEvent<T = unknown> {
  readonly id: string;
  readonly type: string;
  /** The JSON value; the text if it is not JSON. */
  readonly data: T;
}

export interface UseSSEOptions {
  endpoint: string;
  /** Sent as `Authorization: Bearer …`. */
  token?: string | undefined;
  /** Called when the stream is opened, and after each reconnect. */
  onConnect?: () => void;
  onError?: (error: StreamError) => void;
  /** False: do not reconnect. */
  reconnect?: boolean;
  /** Milliseconds before the first attempt to reconnect, unless the server sends `retry:`. */
  reconnectInterval?: number;
  /** How many of the newest events are kept. Default: 1000. */
  maxEvents?: number;
}

const MAX_EVENTS = 1_000;

/** The events of an endpoint, oldest first, and whether the stream is open. */
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
  /** The server's base URL. Default: the origin of the page. */
  baseUrl?: string;
  onEvent?: (event: StreamEvent) => void;
  /** How many of the newest events are kept. Default: 1000. */
  maxEvents?: number;
}

export interface UseTopicResult<T> {
  events: ReceivedEvent<T>[];
  isConnected: boolean;
  state: State;
  /** The last gap, if events are missing. */
  gap: Gap | undefined;
  /** Why the stream was closed, if it was. */
  closed: Closed | undefined;
}

/**
 * The events of one topic, or of several over one connection. Changes of options other than callbacks have no effect until
 * the topic changes; use a function for a token that changes.
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
  /** The newest named event of each name, such as `status` and `sources`. */
  notes: Readonly<Record<string, unknown>>;
  state: "idle" | "running" | Finish["state"];
  /** How the answer ended; undefined while it is running. */
  finish: Finish | undefined;
  /** The state of the connection. */
  connection: State;
  /** Starts an answer, and stops reading the previous one. `url`: a different URL than that of the hook. */
  start: (body?: GenerateOptions["body"], url?: string) => Generation;
  /** Stops the answer at the server; the text so far is kept. */
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

/** An answer, which is started by calling `start`, not by rendering. It is no longer read after the component unmounts. */
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

/** A stream that is open while the component is mounted. Changed callbacks do not cause a new connection. */
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
    let isUnmounted = false;
    const update = (change: (before: Stream<T>) => Partial<Stream<T>>) => {
      if (!isUnmounted) setStream((before) => ({ ...before, ...change(before) }));
    };
    // Events that arrive together cause one render.
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
        if (!isUnmounted) latest.current.onState?.(state);
      },
      onGap: (gap) => {
        update(() => ({ gap }));
        latest.current.onGap?.(gap);
      },
      onClose: (closed) => {
        update(() => ({ closed }));
        if (!isUnmounted) latest.current.onClose?.(closed);
      },
      onOpen: (response) => latest.current.onOpen?.(response),
      onError: (error, attempt) => latest.current.onError?.(error, attempt),
      onHello: (hello) => latest.current.onHello?.(hello),
      onBye: (bye) => latest.current.onBye?.(bye),
      onReauth: (reauth) => latest.current.onReauth?.(reauth),
    });
    return () => {
      isUnmounted = true;
      connection.close();
    };
  }, [url, maxEvents, ...dependencies]);

  return stream;
}

/** The value of the last render, for callbacks that run later. */
function useLatest<V>(value: V): RefObject<V> {
  const ref = useRef(value);
  useEffect(() => {
    ref.current = value;
  });
  return ref;
}
