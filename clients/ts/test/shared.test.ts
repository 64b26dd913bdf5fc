import { afterEach, beforeEach, expect, it, onTestFinished, vi } from "vitest";

import { connect, type ConnectOptions, type EventStream, type Gap } from "../src/index.js";
import { event, FakePage, serve } from "./support.js";

const hold = { then: "hold" } as const;

/** Locks as browsers have them: one holder for each name, the others wait in line. */
class Locks {
  readonly #tails = new Map<string, Promise<void>>();

  async request(name: string, { signal }: { signal: AbortSignal }, hold: () => Promise<void>): Promise<void> {
    const before = this.#tails.get(name);
    const turn = (async () => {
      await before;
      if (!signal.aborted) await hold();
    })();
    this.#tails.set(name, turn);
    await turn;
  }
}

beforeEach(() => {
  vi.stubGlobal("navigator", { locks: new Locks() });
});

afterEach(() => {
  vi.unstubAllGlobals();
});

interface Tab {
  stream: EventStream;
  events: string[];
  gaps: Gap[];
}

function open(url: string, options: ConnectOptions = {}): Tab {
  const events: string[] = [];
  const gaps: Gap[] = [];
  const stream = connect(url, {
    share: true,
    reconnectInterval: 100,
    onEvent: ({ data }) => events.push(data),
    onGap: (gap) => gaps.push(gap),
    ...options,
  });
  onTestFinished(() => stream.close());
  return { stream, events, gaps };
}

const until = (check: () => void) => vi.waitFor(check, 10_000);

it("tabs share one connection and receive the same events", async () => {
  const { url, server } = await serve([{ chunks: [event(1), { pause: 300 }, event(2)], ...hold }]);
  const first = open(url);
  await until(() => expect(first.events).toEqual(["1"]));
  const second = open(url);
  await until(() => expect(second.events).toEqual(["1", "2"]));
  await until(() => expect(first.events).toEqual(["1", "2"]));
  expect([first.stream.leads, second.stream.leads]).toEqual([true, false]);
  expect([first.stream.state, second.stream.state]).toEqual(["open", "open"]);
  expect(second.stream.lastEventId).toBe("2");
  expect(server.requests).toHaveLength(1);
});

it("another tab takes over and resumes when the tab with the connection closes", async () => {
  const { url, server } = await serve([{ chunks: [event(1)], ...hold }, { chunks: [event(1), event(2)], ...hold }]);
  const first = open(url);
  const second = open(url);
  const third = open(url);
  await until(() => expect(third.events).toEqual(["1"]));
  first.stream.close();
  await until(() => expect([second.events, third.events]).toEqual([["1", "2"], ["1", "2"]]));
  expect(second.stream.leads).toBe(true);
  expect(server.requests[1]!.headers["last-event-id"]).toBe("1");
  expect(first.events).toEqual(["1"]);
  expect([...second.gaps, ...third.gaps]).toEqual([]);
});

it("events without ids are neither lost nor repeated by a take-over", async () => {
  const { url } = await serve([{ chunks: ["data: a\n\n"], ...hold }, { chunks: ["data: a\n\n"], ...hold }]);
  const first = open(url);
  const second = open(url);
  await until(() => expect(second.events).toEqual(["a"]));
  first.stream.close();
  await until(() => expect(second.events).toEqual(["a", "a"]));
  const third = open(url);
  await until(() => expect(third.events).toEqual(["a", "a"]));
});

it("a hidden tab gives up the connection", async () => {
  const page = new FakePage();
  const { url, server } = await serve([{ chunks: [event(1)], ...hold }, { chunks: [event(2)], ...hold }]);
  const { events, stream } = open(url);
  await until(() => expect(events).toEqual(["1"]));
  page.show(false);
  await until(() => expect(server.open).toBe(0));
  expect([stream.state, stream.leads]).toEqual(["paused", false]);
  page.show(true);
  await until(() => expect(events).toEqual(["1", "2"]));
  expect(server.requests[1]!.headers["last-event-id"]).toBe("1");
});

it("all tabs are closed when the stream fails", async () => {
  const { url } = await serve([{ chunks: [event(1)], then: "end" }, { status: 403, headers: {}, chunks: ['{"detail": "no"}'] }]);
  const first = open(url);
  const second = open(url);
  for (const { stream } of [first, second]) {
    expect(await stream.closed).toMatchObject({ reason: "failed", error: { code: "http", status: 403, message: "no" } });
  }
});

it("a tab whose position is not kept gets a gap", async () => {
  const { url } = await serve([{ chunks: [event(7)], ...hold }]);
  const first = open(url);
  await until(() => expect(first.events).toEqual(["7"]));
  const second = open(url, { lastEventId: "3" });
  await until(() => expect(second.events).toEqual(["7"]));
  expect(second.gaps).toEqual([{ requested: "3", oldest: "7", reason: "tabs" }]);
  const third = open(url, { lastEventId: "7" });
  await until(() => expect(third.stream.state).toBe("open"));
  expect([third.events, third.gaps]).toEqual([[], []]);
});

it("a tab that joins gets the newest events", async () => {
  const many = Array.from({ length: 1_200 }, (_, index) => event(index + 1));
  const { url } = await serve([{ chunks: [many.join("")], ...hold }]);
  const first = open(url);
  await until(() => expect(first.events).toHaveLength(1_200));
  const second = open(url);
  await until(() => expect(second.events).toHaveLength(1_000));
  expect(second.events[0]).toBe("201");
});

/** A `fetch` whose responses the test writes. */
class Responses {
  readonly lastEventIds: (string | null)[] = [];
  write: (text: string) => void = () => {};
  readonly fetch: typeof fetch = async (_url, init) => {
    this.lastEventIds.push(new Headers(init?.headers).get("Last-Event-ID"));
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.write = (text) => controller.enqueue(new TextEncoder().encode(text));
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  };
}

it("events that arrive while a tab gives up the connection are not skipped", async () => {
  const page = new FakePage();
  const responses = new Responses();
  const { events, stream } = open("http://a/stream", { fetch: responses.fetch });
  await until(() => expect(stream.state).toBe("open"));
  responses.write(event(1));
  await until(() => expect(events).toEqual(["1"]));
  responses.write(event(2));
  page.show(false);
  await until(() => expect(stream.state).toBe("paused"));
  page.show(true);
  await until(() => expect(responses.lastEventIds).toHaveLength(2));
  const missed = events.includes("2") ? "2" : "1";
  expect(responses.lastEventIds).toEqual([null, missed]);
});

it("a tab that was hidden for more events than are kept gets a gap", async () => {
  const responses = new Responses();
  new FakePage();
  const first = open("http://b/stream", { fetch: responses.fetch });
  await until(() => expect(first.stream.state).toBe("open"));
  const page = new FakePage(); // of the second tab
  const second = open("http://b/stream", { fetch: responses.fetch });
  responses.write(event(1));
  await until(() => expect(second.events).toEqual(["1"]));
  page.show(false);
  const numbers = Array.from({ length: 1_200 }, (_, index) => index + 2);
  responses.write(numbers.map((number) => event(number)).join(""));
  await until(() => expect(first.events).toHaveLength(1_201));
  expect(second.events).toEqual(["1"]);
  page.show(true);
  await until(() => expect(second.events).toHaveLength(1_001));
  expect(second.gaps).toEqual([{ requested: "1", oldest: "202", reason: "tabs" }]);
  expect(responses.lastEventIds).toEqual([null]);
});

it("users with different names share nothing", async () => {
  const { url, server } = await serve([{ chunks: [event(1, "of a")], ...hold }, { chunks: [event(1, "of b")], ...hold }]);
  const first = open(url, { share: "a", token: "a" });
  await until(() => expect(first.events).toEqual(["of a"]));
  const second = open(url, { share: "b", token: "b" });
  await until(() => expect(second.events).toEqual(["of b"]));
  expect(server.requests).toHaveLength(2);
});

it("rejects options that cannot be shared", () => {
  const onEvent = () => {};
  expect(() => connect("http://a/", { share: true, onEvent, token: "t" })).toThrow(/name for the user/);
  expect(() => connect("http://a/", { share: true, onEvent, body: "q" })).toThrow(/only a GET/);
  expect(() => connect("http://a/", { share: true })).toThrow(/onEvent/);
});

it("each tab has its own connection without Web Locks", async () => {
  vi.stubGlobal("navigator", {});
  const { url, server } = await serve([{ chunks: [event(1)], ...hold }, { chunks: [event(1)], ...hold }]);
  const tabs = [open(url), open(url)];
  await until(() => expect(tabs.map(({ events }) => events)).toEqual([["1"], ["1"]]));
  expect(server.requests).toHaveLength(2);
  expect(tabs[0]!.stream.leads).toBe(true);
});
