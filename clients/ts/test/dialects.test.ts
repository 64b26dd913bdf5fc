import { expect, it } from "vitest";

import { partReader, type Dialect, type Part } from "../src/dialects.js";

type Wire = [type: string, data: string];

function read(dialect: Dialect, events: Wire[]): Part[] {
  const reader = partReader(dialect);
  return events.flatMap(([type, data]) => reader({ type, data, id: "" }) ?? []);
}

const chunk = (delta: object, reason: string | null = null): Wire => [
  "message",
  JSON.stringify({ object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason: reason }] }),
];
const text = (value: string): Part => ({ type: "text", text: value });
const done: Part = { type: "finish", finish: { state: "done" } };
const cut: Part = { type: "finish", finish: { state: "done", reason: "length" } };

it.each<[Dialect, Wire[], Part[]]>([
  ["plain", [["message", ""], ["message", "안"], ["message", "\n"], ["message", "[DONE]"]], [text("안"), text("\n"), done]],
  ["plain", [["message", "a"], ["finish", '{"reason": "length"}'], ["message", "[DONE]"]], [text("a"), cut]],
  ["json", [["message", '{"content": ""}'], ["message", '{"content": "안"}'], ["message", '{"done": true}']], [text("안"), done]],
  ["json", [["message", '{"done": true, "reason": "length"}']], [cut]],
  [
    "envelope",
    [
      ["token", '{"status": 200, "message": "토큰 생성", "data": {"token": "안"}}'],
      ["complete", '{"status": 200, "message": "생성 완료", "data": null}'],
    ],
    [text("안"), done],
  ],
  ["envelope", [["complete", '{"status": 200, "message": "x", "data": null, "reason": "length"}']], [cut]],
  ["openai", [chunk({ role: "assistant", content: "" }), chunk({ content: "안" }), chunk({}, "stop"), ["message", "[DONE]"]], [text("안"), done]],
  ["openai", [chunk({ reasoning_content: "hm" }), chunk({ refusal: "no" }), chunk({}, "stop"), ["message", "[DONE]"]], [text("no"), done]],
  ["openai", [chunk({ content: "a" }), chunk({}, "length"), ["message", "[DONE]"]], [text("a"), cut]],
])("reads a %s answer that is done: %j", (dialect, events, parts) => {
  expect(read(dialect, events)).toEqual(parts);
});

it.each<[Dialect, Wire[], object]>([
  [
    "plain",
    [["failure", '{"state": "interrupted", "message": "m", "kind": "interrupted", "retryable": true}']],
    { state: "interrupted", message: "m", kind: "interrupted", retryable: true },
  ],
  [
    "json",
    [["message", '{"error": "m", "kind": "rate_limited", "retryable": true, "retry_after": 1.5}']],
    { state: "failed", message: "m", kind: "rate_limited", retryable: true, retryAfter: 1_500 },
  ],
  ["json", [["message", '{"error": "m", "kind": "cancelled", "retryable": false}']], { state: "cancelled", message: "m", kind: "cancelled", retryable: false }],
  ["json", [["message", '{"error": "ingredients 파라미터가 필요합니다"}']], { state: "failed", message: "ingredients 파라미터가 필요합니다" }],
  ["envelope", [["error", '{"status": 500, "message": "m", "data": null, "retryable": true}']], { state: "failed", message: "m", retryable: true }],
  [
    "openai",
    [["message", '{"error": {"message": "m", "type": "incomplete", "code": "incomplete", "retryable": true}}']],
    { state: "incomplete", message: "m", kind: "incomplete", retryable: true },
  ],
])("reads a %s answer that is not done: %j", (dialect, events, finish) => {
  expect(read(dialect, events)).toEqual([{ type: "finish", finish }]);
});

it.each<[Dialect, Wire, unknown]>([
  ["plain", ["status", '{"stage": "searching"}'], { stage: "searching" }],
  ["json", ["sources", "[1]"], [1]],
  ["json", ["remark", "no JSON"], "no JSON"],
  ["envelope", ["status", '{"status": 200, "message": "status", "data": {"stage": "searching"}}'], { stage: "searching" }],
])("reads named events of %s as notes: %j", (dialect, event, data) => {
  expect(read(dialect, [event])).toEqual([{ type: "note", name: event[0], data }]);
});

it.each<[Dialect, Wire]>([
  ["json", ["message", "{"]],
  ["json", ["message", "null"]],
  ["json", ["message", '{"content": 5}']],
  ["envelope", ["token", '{"data": null}']],
  ["openai", ["message", '{"choices": []}']],
  ["openai", ["message", "5"]],
])("%s: an event of another form has no part: %j", (dialect, event) => {
  expect(read(dialect, [event])).toEqual([]);
});
