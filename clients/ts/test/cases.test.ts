import { readFileSync, readdirSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { connect, type Closed, type ConnectOptions, type EventStream, type Gap, type State } from "../src/index.js";
import { ScriptedServer, type Exchange } from "./scripted_server.js";

/** See clients/cases/README.md. */
interface Case {
  name: string;
  path?: string;
  options?: ConnectOptions & { end?: string };
  tokens?: string[];
  tickets?: string[];
  exchanges: Exchange[];
  close?: "all" | { events?: number; requests?: number };
  expect: {
    events?: [string, string, string?][];
    closed?: Closed["reason"];
    error?: string;
    status?: number;
    message?: string;
    retryAfter?: number;
    gaps?: Gap[];
    byes?: object[];
    reauths?: object[];
    errors?: string[];
    states?: State[];
    waits?: [number, number?][];
    lastEventId?: string;
    refreshes?: boolean[];
  };
}

const FOLDER = new URL("../../cases/", import.meta.url);
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith(".json"));
// How much later than it should a busy machine may do something (milliseconds).
const LATE = 5_000;

async function run(test: Case): Promise<void> {
  const server = new ScriptedServer(test.exchanges);
  const port = await server.start();
  const seen = { events: [] as string[][], gaps: [] as Gap[], byes: [] as object[], reauths: [] as object[] };
  const states: State[] = [];
  const errors: string[] = [];
  const refreshes: boolean[] = [];
  const provide = (values: string[]) => {
    const left = [...values];
    return ({ refresh }: { refresh: boolean }) => {
      refreshes.push(refresh);
      return left.shift() ?? "none";
    };
  };
  const { end, ...options } = test.options ?? {};
  let stream: EventStream | undefined;
  const check = (): void => {
    const { close } = test;
    if (!stream || !close) return;
    const { events, requests } =
      close === "all"
        ? { events: test.expect.events?.length ?? 0, requests: test.exchanges.length }
        : { events: 0, requests: 0, ...close };
    if (seen.events.length >= events && server.requests.length >= requests) stream.close();
  };
  server.onRequest = check;
  try {
    stream = connect(`http://127.0.0.1:${port}${test.path ?? "/stream"}`, {
      reconnectInterval: 100,
      ...options,
      ...(test.tokens && { token: provide(test.tokens) }),
      ...(test.tickets && { ticket: provide(test.tickets) }),
      ...(end !== undefined && { isEnd: (event) => event.data === end }),
      onEvent: (event) => {
        seen.events.push([event.type, event.data, event.id]);
        check();
      },
      onState: (state) => states.push(state),
      onError: (error) => errors.push(error.code === "http" ? String(error.status) : error.code),
      onGap: (gap) => seen.gaps.push(gap),
      onBye: (bye) => seen.byes.push(bye),
      onReauth: (reauth) => seen.reauths.push(reauth),
    });
    const closed = await stream.closed;
    const { expect: wanted } = test;
    expect(seen.events).toEqual(
      (wanted.events ?? []).map(([type, data, id], index) => [type, data, id ?? seen.events[index]?.[2]]),
    );
    expect({ reason: closed.reason, error: closed.error?.code, status: closed.error?.status }).toEqual({
      reason: wanted.closed ?? "client",
      error: wanted.error,
      status: wanted.status,
    });
    if (wanted.message !== undefined) expect(closed.error?.message).toContain(wanted.message);
    if (wanted.retryAfter !== undefined) expect(closed.error?.retryAfter).toBe(wanted.retryAfter);
    expect(seen.gaps).toEqual(wanted.gaps ?? []);
    expect(seen.byes).toEqual(wanted.byes ?? []);
    expect(seen.reauths).toEqual(wanted.reauths ?? []);
    if (wanted.errors) expect(errors).toEqual(wanted.errors);
    if (wanted.states) expect(states).toEqual(wanted.states);
    if (wanted.lastEventId !== undefined) expect(stream.lastEventId).toBe(wanted.lastEventId);
    if (wanted.refreshes) expect(refreshes).toEqual(wanted.refreshes);
    expect(server.requests.length).toBe(test.exchanges.length);
    test.exchanges.forEach((exchange, index) => checkRequest(exchange, server.requests[index]!));
    wanted.waits?.forEach(([least, most = least + LATE], index) => {
      const wait = server.requests[index + 1]!.at - server.requests[index]!.at;
      expect(wait).toBeGreaterThanOrEqual(least - 2); // timers may run a little early
      expect(wait).toBeLessThan(most);
    });
  } finally {
    stream?.close();
    await server.stop();
  }
}

function checkRequest({ expect: wanted = {} }: Exchange, request: ScriptedServer["requests"][number]): void {
  expect(request.method).toBe(wanted.method ?? request.method);
  expect(request.path).toBe(wanted.path ?? request.path);
  expect(request.body).toBe(wanted.body ?? request.body);
  for (const [name, value] of Object.entries(wanted.headers ?? {})) {
    const sent = request.headers[name] as string | undefined;
    expect([name, sent]).toEqual([name, value ?? undefined]);
  }
}

describe.each(FILES)("%s", (file) => {
  const cases = JSON.parse(readFileSync(new URL(file, FOLDER), "utf8")) as Case[];
  it.concurrent.each(cases.map((test) => [test.name, test] as const))("%s", (_, test) => run(test));
});
