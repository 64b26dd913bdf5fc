import { expect, it, onTestFinished, vi } from "vitest";

import { connect, StreamError, type StreamEvent } from "../src/index.js";
import { event, FakePage, reached, serve } from "./support.js";

const hold = { then: "hold" } as const;

async function take(stream: AsyncIterable<StreamEvent>, count: number): Promise<string[]> {
  const taken: string[] = [];
  for await (const { data } of stream) {
    taken.push(data);
    if (taken.length === count) break;
  }
  return taken;
}

it("iterates over events across reconnects, and closes when the loop is left", async () => {
  const { url, server } = await serve([{ chunks: [event(1)], then: "cut" }, { chunks: [event(2), event(3)], ...hold }]);
  const stream = connect(url, { reconnectInterval: 100 });
  expect(await take(stream, 2)).toEqual(["1", "2"]);
  expect(await stream.closed).toEqual({ reason: "client" });
  await vi.waitFor(() => expect(server.open).toBe(0));
});

it("queues events until the iterator takes them", async () => {
  const { url } = await serve([{ chunks: [event(1), event(2)], ...hold }]);
  const stream = connect(url);
  await vi.waitFor(() => expect(stream.lastEventId).toBe("2"));
  expect(await take(stream, 2)).toEqual(["1", "2"]);
});

it("ends the iteration when the stream ends", async () => {
  const { url } = await serve([{ chunks: ["data: a\nid: w.e-1\n\n", "data: b\nid: w.e-2.end\n\n"], ...hold }]);
  expect(await take(connect(url), Infinity)).toEqual(["a", "b"]);
});

it("throws from the iteration when the stream fails, after the events before the failure", async () => {
  const { url } = await serve([{ chunks: [event(1)] }, { status: 403, headers: {} }]);
  const taken: string[] = [];
  const iterate = async () => {
    for await (const { data } of connect(url, { reconnectInterval: 100 })) taken.push(data);
  };
  await expect(iterate()).rejects.toMatchObject({ name: "StreamError", code: "http", status: 403 });
  expect(taken).toEqual(["1"]);
});

it("applies back-pressure, during which the watchdog is off", async () => {
  const many = Array.from({ length: 40 }, (_, piece) =>
    Array.from({ length: 100 }, (_, index) => event(piece * 100 + index)).join(""),
  );
  const { url, server } = await serve([{ chunks: many, ...hold }]);
  const stream = connect(url, { heartbeat: 1_000 });
  await vi.waitFor(() => expect(stream.lastEventId).not.toBe(""));
  const until = performance.now() + 3_000; // longer than 2.5 heartbeat intervals
  await vi.waitFor(() => expect(performance.now()).toBeGreaterThan(until), 10_000);
  expect(Number(stream.lastEventId)).toBeLessThan(1_000);
  expect(await take(stream, 4_000)).toEqual(Array.from({ length: 4_000 }, (_, index) => `${index}`));
  expect(server.requests).toHaveLength(1);
});

it("is closed by an abort signal, before and after the request", async () => {
  const { url, server } = await serve([{ chunks: [event(1)], ...hold }]);
  const aborted = connect(url, { signal: AbortSignal.abort() });
  expect(await aborted.closed).toEqual({ reason: "client" });
  const control = new AbortController();
  const stream = connect(url, { signal: control.signal, onEvent: () => control.abort() });
  expect(await stream.closed).toEqual({ reason: "client" });
  expect(server.requests).toHaveLength(1);
});

it("sends no request if it is closed in the same turn, as in React's StrictMode", async () => {
  const { url, server } = await serve([{ chunks: [event(1)], ...hold }]);
  connect(url).close();
  const stream = connect(url);
  expect(await take(stream, 1)).toEqual(["1"]);
  expect(server.requests).toHaveLength(1);
});

it("continues after an exception in a callback, and reports it", async () => {
  const thrown: unknown[] = [];
  const listeners = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => thrown.push(error));
  onTestFinished(() => {
    process.removeAllListeners("uncaughtException");
    for (const listener of listeners) process.on("uncaughtException", listener);
  });
  const { url } = await serve([{ chunks: [event(1), event(2)], ...hold }]);
  const seen: string[] = [];
  const stream = connect(url, {
    onEvent: ({ data }) => {
      seen.push(data);
      if (seen.length === 2) stream.close();
      throw new Error("of the caller");
    },
  });
  await stream.closed;
  await vi.waitFor(() => expect(thrown).toHaveLength(2));
  expect(seen).toEqual(["1", "2"]);
});

it("closes the connection while the page is hidden, and resumes", async () => {
  const page = new FakePage();
  const { url, server } = await serve([{ chunks: [event(1)], ...hold }, { chunks: [event(2)], ...hold }]);
  const seen: string[] = [];
  const stream = connect(url, { onEvent: ({ data }) => seen.push(data) });
  await vi.waitFor(() => expect(seen).toEqual(["1"]));
  page.show(false);
  await reached(stream, "paused");
  await vi.waitFor(() => expect(server.open).toBe(0));
  page.show(true);
  await vi.waitFor(() => expect(seen).toEqual(["1", "2"]));
  expect(server.requests[1]!.headers["last-event-id"]).toBe("1");
  stream.close();
});

it("keeps the connection of a hidden page with whenHidden: stay", async () => {
  const page = new FakePage();
  const { url, server } = await serve([{ chunks: [event(1), { pause: 100 }, event(2)], ...hold }]);
  const stream = connect(url, { whenHidden: "stay" });
  page.show(false);
  expect(await take(stream, 2)).toEqual(["1", "2"]);
  expect(server.requests).toHaveLength(1);
});

it("does not connect while the page is hidden, neither at first nor after a delay", async () => {
  const page = new FakePage();
  page.show(false);
  const { url, server } = await serve([{ status: 503, headers: { "Retry-After": "60" } }, { chunks: [event(1)], ...hold }]);
  const stream = connect(url);
  await reached(stream, "paused");
  expect(server.requests).toHaveLength(0);
  page.show(true);
  await reached(stream, "waiting");
  page.show(false);
  await reached(stream, "paused");
  page.show(true);
  expect(await take(stream, 1)).toEqual(["1"]);
});

it("keeps a connection that cannot be resumed while the page is hidden", async () => {
  const page = new FakePage();
  const { url, server } = await serve([{ chunks: ["data: a\n\n", { pause: 100 }, "data: b\n\n"] }]);
  const seen: string[] = [];
  const stream = connect(url, { body: "q", onEvent: ({ data }) => seen.push(data) });
  await vi.waitFor(() => expect(seen).toEqual(["a"]));
  page.show(false);
  page.dispatch("pagehide");
  expect(await stream.closed).toEqual({ reason: "end" });
  expect(seen).toEqual(["a", "b"]);
  expect(server.requests).toHaveLength(1);
});

it("keeps its only connection while the page is hidden with reconnect: false", async () => {
  const page = new FakePage();
  const { url, server } = await serve([{ chunks: [event(1), { pause: 100 }, event(2)] }]);
  const seen: string[] = [];
  const stream = connect(url, { reconnect: false, onEvent: ({ data }) => seen.push(data) });
  await vi.waitFor(() => expect(seen).toEqual(["1"]));
  page.show(false);
  expect(await stream.closed).toEqual({ reason: "end" });
  expect(seen).toEqual(["1", "2"]);
  expect(server.requests).toHaveLength(1);
});

it("resumes a POST by a GET after the page was hidden", async () => {
  const page = new FakePage();
  const { url, server } = await serve([
    { headers: { Location: "/answers/1" }, chunks: ["data: a\nid: w.e-1\n\n"], ...hold },
    { chunks: ["data: b\nid: w.e-2.end\n\n"] },
  ]);
  const seen: string[] = [];
  const stream = connect(url, { body: { q: 1 }, onEvent: ({ data }) => seen.push(data) });
  await vi.waitFor(() => expect(seen).toEqual(["a"]));
  page.show(false);
  await reached(stream, "paused");
  page.show(true);
  expect((await stream.closed).reason).toBe("end");
  expect(server.requests.map(({ method, path }) => `${method} ${path}`)).toEqual(["POST /stream", "GET /answers/1"]);
});

it("closes the connection on pagehide, also with whenHidden: stay, and resumes on pageshow", async () => {
  const page = new FakePage();
  const { url, server } = await serve([{ chunks: [event(1)], ...hold }, { chunks: [event(2)], ...hold }]);
  const seen: string[] = [];
  const stream = connect(url, { whenHidden: "stay", onEvent: ({ data }) => seen.push(data) });
  await vi.waitFor(() => expect(seen).toEqual(["1"]));
  page.dispatch("pagehide");
  await vi.waitFor(() => expect(server.open).toBe(0));
  page.dispatch("pageshow");
  await vi.waitFor(() => expect(seen).toEqual(["1", "2"]));
  stream.close();
  page.dispatch("pageshow");
  page.show(false);
  expect(stream.state).toBe("closed");
});

it("reconnects at once when the browser is online again", async () => {
  const page = new FakePage();
  const { url } = await serve([{ instead: "cut" }, { chunks: [event(1)], ...hold }]);
  const stream = connect(url, { reconnectInterval: 60_000 });
  await reached(stream, "waiting");
  page.dispatch("online");
  expect(await take(stream, 1)).toEqual(["1"]);
});

it("ignores changes of the system clock", async () => {
  const { url, server } = await serve([{ chunks: [event(1), { pause: 150 }, event(2)], ...hold }]);
  const stream = connect(url, { heartbeat: 2_000 });
  const day = 86_400_000;
  const now = Date.now.bind(Date);
  let jump = day;
  vi.spyOn(Date, "now").mockImplementation(() => now() + jump);
  onTestFinished(() => void vi.restoreAllMocks());
  await vi.waitFor(() => expect(stream.lastEventId).toBe("1"));
  jump = -day;
  expect(await take(stream, 2)).toEqual(["1", "2"]);
  expect(server.requests).toHaveLength(1);
});

it("tries again if the token function fails", async () => {
  const { url } = await serve([{ chunks: [event(1)], ...hold }]);
  const errors: StreamError[] = [];
  let asked = 0;
  const token = async () => {
    asked += 1;
    if (asked === 1) throw new Error("offline");
    return "t";
  };
  const stream = connect(url, { token, reconnectInterval: 100, onError: (error) => errors.push(error) });
  expect(await take(stream, 1)).toEqual(["1"]);
  expect(errors).toHaveLength(1);
  expect(errors[0]).toMatchObject({ code: "request", cause: { message: "offline" } });
});

it("fails if the token is not a valid header value", async () => {
  const { url, server } = await serve([]);
  const stream = connect(url, { token: "a\nb" });
  expect(await stream.closed).toMatchObject({ reason: "failed", error: { code: "request" } });
  expect(server.requests).toHaveLength(0);
});

it("sends bodies like fetch, and arrays as JSON", async () => {
  const form = new URLSearchParams({ q: "여울" });
  const { url, server } = await serve([{ chunks: [] }, { chunks: [] }, { chunks: [] }]);
  for (const body of [form, new TextEncoder().encode("bytes"), [1, 2]]) await connect(url, { body }).closed;
  expect(server.requests.map(({ body, headers }) => [body, headers["content-type"]?.split(";")[0]])).toEqual([
    ["q=%EC%97%AC%EC%9A%B8", "application/x-www-form-urlencoded"],
    ["bytes", undefined],
    ["[1,2]", "application/json"],
  ]);
});

it("throws for an invalid URL", () => {
  expect(() => connect("http://")).toThrow(TypeError);
});
