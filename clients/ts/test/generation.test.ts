import { expect, it, vi } from "vitest";

import { generate, type Part } from "../src/index.js";
import { serve } from "./support.js";

const token = (offset: number, text: string) => `data: ${JSON.stringify({ content: text })}\nid: w.e-${offset}\n\n`;
const done = (offset: number) => `data: {"done": true}\nid: w.e-${offset}.end\n\n`;

it("resumes an answer that is cut, with one POST", async () => {
  const { url, server } = await serve([
    { headers: { Location: "/generations/w" }, chunks: [token(1, ""), token(2, "a ")], then: "cut" },
    { instead: "cut" },
    { chunks: [token(3, "b"), done(4)] },
  ]);
  const texts: string[] = [];
  const answer = generate(url, { body: { prompt: "q" }, reconnectInterval: 100, onText: (text) => texts.push(text) });
  expect(await answer.finished).toEqual({ state: "done" });
  expect(texts).toEqual(["a ", "a b"]);
  expect(answer.location).toBe(new URL("/generations/w", url).href);
  expect(server.requests.map(({ method }) => method)).toEqual(["POST", "GET", "GET"]);
});

it("each iteration yields all parts", async () => {
  const { url } = await serve([{ chunks: ['event: status\ndata: {"stage": "searching"}\n\n', token(1, "a"), done(2)] }]);
  const answer = generate(url);
  const kinds = async () => {
    const seen: Part["type"][] = [];
    for await (const part of answer) seen.push(part.type);
    return seen;
  };
  const [first, second] = await Promise.all([kinds(), kinds()]);
  expect(first).toEqual(["note", "text", "finish"]);
  expect(second).toEqual(first);
  expect(await kinds()).toEqual(first);
});

it("takes the dialect from the response, the option or the URL", async () => {
  const plain = ["data: a\n\n", "data: [DONE]\n\n"];
  const { url } = await serve([
    { headers: { "Content-Location": "/generations/w/stream?dialect=plain" }, chunks: plain },
    { chunks: plain },
    { chunks: plain },
  ]);
  for (const answer of [generate(url), generate(`${url}?dialect=plain`), generate(url, { dialect: "plain" })]) {
    expect(await answer.finished).toEqual({ state: "done" });
    expect(answer.text).toBe("a");
  }
});

it("reports an answer that was cut as incomplete", async () => {
  const { url } = await serve([{ chunks: [token(1, "a")], then: "cut" }, { chunks: [token(1, "a")] }, { status: 204 }]);
  for (let count = 0; count < 2; count += 1) {
    const answer = generate(url, { body: "q" });
    expect(await answer.finished).toMatchObject({ state: "incomplete", kind: "truncated" });
    expect(answer.text).toBe("a");
  }
  expect(await generate(url).finished).toMatchObject({ state: "incomplete" });
});

it("reports the reason of a refusal", async () => {
  const { url } = await serve([
    { status: 503, headers: { "Retry-After": "7" }, chunks: ['{"detail": "the model is busy"}'] },
    { status: 422, headers: {}, chunks: ['{"detail": "`prompt` is blank"}'] },
  ]);
  expect(await generate(url, { body: {} }).finished).toEqual({
    state: "failed",
    kind: "http",
    message: "the model is busy",
    retryable: true,
    retryAfter: 7_000,
  });
  expect(await generate(url, { body: {} }).finished).toMatchObject({ message: "`prompt` is blank", retryable: false });
});

it("stops the answer at the server with its credentials, and reads the end", async () => {
  const { url, server } = await serve([
    { headers: { Location: "/generations/w" }, chunks: [token(1, "a"), { pause: 300 }, 'data: {"error": "cancelled", "kind": "cancelled"}\nid: w.e-2.end\n\n'] },
    { status: 200, headers: { "Content-Type": "application/json" }, chunks: ["{}"] },
  ]);
  const answer = generate(url, { body: "q", token: "t" });
  await vi.waitFor(() => expect(answer.text).toBe("a"));
  await answer.stop();
  expect(answer.finish).toMatchObject({ state: "cancelled" });
  expect(server.requests[1]).toMatchObject({ method: "DELETE", path: "/generations/w", headers: { authorization: "Bearer t" } });
  await answer.stop();
  expect(server.requests).toHaveLength(2);
});

it("throws if the server refuses to stop the answer", async () => {
  const { url } = await serve([
    { headers: { Location: "/generations/w" }, chunks: [token(1, "a")], then: "hold" },
    { status: 403, headers: {} },
  ]);
  const answer = generate(url, { body: "q" });
  await vi.waitFor(() => expect(answer.text).toBe("a"));
  await expect(answer.stop()).rejects.toMatchObject({ code: "http", status: 403 });
  answer.close();
  expect(await answer.finished).toMatchObject({ state: "incomplete", message: "the stream was closed by the client" });
});
