// @vitest-environment jsdom
import { createElement, StrictMode, type ReactNode } from "react";
import { flushSync } from "react-dom";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { useGeneration, useSSE, useTopic, type UseGenerationResult, type UseSSEOptions } from "../src/react.js";
import { event, serve } from "./support.js";

const hold = { then: "hold" } as const;
let root: Root;

beforeEach(() => {
  const element = document.body.appendChild(document.createElement("main"));
  root = createRoot(element);
});

afterEach(() => {
  root.unmount();
  document.body.replaceChildren();
});

function render(node: ReactNode): void {
  flushSync(() => root.render(createElement(StrictMode, null, node)));
}

async function shows(text: string): Promise<void> {
  await vi.waitFor(() => expect(document.body.textContent).toBe(text), { timeout: 10_000 });
}

function Events(options: UseSSEOptions): ReactNode {
  const { events, isConnected } = useSSE<{ text: string }>(options);
  const items = events.map(({ id, data }) => createElement("li", { key: id }, data.text ?? `${data}`, " "));
  return createElement("ul", null, isConnected ? "connected " : "not connected ", items);
}

it("useSSE shows parsed events, and sends one request in StrictMode", async () => {
  const { url, server } = await serve([{ chunks: [event(1, '{"text": "a"}'), event(2, "plain")], ...hold }]);
  const onConnect = vi.fn();
  render(createElement(Events, { endpoint: url, token: "t", onConnect }));
  await shows("connected a plain ");
  expect(server.requests).toHaveLength(1);
  expect(server.requests[0]!.headers["authorization"]).toBe("Bearer t");
  expect(onConnect).toHaveBeenCalledTimes(1);
});

it("useSSE keeps its connection when only callbacks change, and closes it on unmount", async () => {
  const { url, server } = await serve([{ chunks: [event(1, '{"text": "a"}'), { pause: 100 }, event(2, "b")], ...hold }]);
  for (let count = 0; count < 5; count += 1) {
    render(createElement(Events, { endpoint: url, onConnect: () => {} }));
  }
  await shows("connected a b ");
  expect(server.requests).toHaveLength(1);
  render(null);
  await vi.waitFor(() => expect(server.open).toBe(0));
});

it("useSSE opens a new stream for another token, and drops the old events", async () => {
  const { url, server } = await serve([{ chunks: [event(1, "a")], ...hold }, { chunks: [event(1, "b")], ...hold }]);
  render(createElement(Events, { endpoint: url, token: "one" }));
  await shows("connected a ");
  render(createElement(Events, { endpoint: url, token: "two" }));
  await shows("connected b ");
  expect(server.requests.map(({ headers }) => headers["authorization"])).toEqual(["Bearer one", "Bearer two"]);
});

it("useSSE reconnects after reconnectInterval, and calls onError", async () => {
  const { url, server } = await serve([{ chunks: [event(1, "a")], then: "cut" }, { chunks: [event(2, "b")], ...hold }]);
  const onError = vi.fn();
  render(createElement(Events, { endpoint: url, reconnectInterval: 200, onError }));
  await shows("connected a b ");
  expect(server.requests[1]!.at - server.requests[0]!.at).toBeGreaterThanOrEqual(200);
  expect(onError).toHaveBeenCalledTimes(1);
});

it("useSSE with reconnect false does not reconnect", async () => {
  const { url, server } = await serve([{ chunks: [event(1, "a")], then: "cut" }]);
  render(createElement(Events, { endpoint: url, reconnect: false }));
  await shows("not connected a ");
  expect(server.requests).toHaveLength(1);
});

it("useSSE keeps the newest maxEvents events", async () => {
  const { url } = await serve([{ chunks: Array.from({ length: 10 }, (_, index) => event(index, `${index}`)), ...hold }]);
  render(createElement(Events, { endpoint: url, maxEvents: 3 }));
  await shows("connected 7 8 9 ");
});

it("useTopic follows one topic or several over one connection", async () => {
  const { url, server } = await serve([{ chunks: [event(1, "a")], ...hold }, { chunks: [event(2, "b")], ...hold }]);
  const baseUrl = new URL(url).origin;
  function Topic({ topic }: { topic: string | string[] }): ReactNode {
    const { events, isConnected } = useTopic<string>(topic, { baseUrl });
    return `${isConnected} ${events.map(({ data }) => data).join()}`;
  }
  render(createElement(Topic, { topic: "chat/여울" }));
  await shows("true a");
  render(createElement(Topic, { topic: ["news", "chat/a"] }));
  await shows("true b");
  expect(server.requests.map(({ path }) => path)).toEqual([
    "/topics/chat/%EC%97%AC%EC%9A%B8",
    "/stream?topic=news&topic=chat%2Fa",
  ]);
});

it("useGeneration sends its request on start, and shows text, notes and the end", async () => {
  const { url, server } = await serve([
    {
      chunks: [
        'event: status\ndata: {"stage": "answering"}\n\n',
        'data: {"content": "a"}\nid: w.e-1\n\n',
        { pause: 100 },
        'data: {"content": "b"}\nid: w.e-2\n\n',
        'data: {"done": true}\nid: w.e-3.end\n\n',
      ],
    },
  ]);
  let answer: UseGenerationResult | undefined;
  function Answer(): ReactNode {
    answer = useGeneration(url);
    return `${answer.state}: ${answer.text} ${JSON.stringify(answer.notes)}`;
  }
  render(createElement(Answer));
  await shows("idle:  {}");
  expect(server.requests).toHaveLength(0);
  answer!.start({ prompt: "q" });
  await shows('done: ab {"status":{"stage":"answering"}}');
  expect(server.requests).toHaveLength(1);
  expect(answer!.finish).toEqual({ state: "done" });
});

it("useGeneration closes the previous answer on start, and the current one on unmount", async () => {
  const { url, server } = await serve([
    { headers: { Location: "/a" }, chunks: ['data: {"content": "old"}\nid: v.e-1\n\n'], ...hold },
    { headers: { Location: "/b" }, chunks: ['data: {"content": "new"}\nid: w.e-1\n\n'], ...hold },
  ]);
  let answer: UseGenerationResult | undefined;
  function Answer(): ReactNode {
    answer = useGeneration(url);
    return `${answer.state}: ${answer.text}`;
  }
  render(createElement(Answer));
  answer!.start("1");
  await shows("running: old");
  answer!.start("2");
  await shows("running: new");
  await vi.waitFor(() => expect(server.open).toBe(1));
  render(null);
  await vi.waitFor(() => expect(server.open).toBe(0));
});
