import { parseJson, type StreamEvent } from "./event.js";

/** The format of an answer's events: `?dialect=` (docs/protocol.md). */
export type Dialect = "plain" | "json" | "envelope" | "openai";

/** How an answer ended. */
export interface Finish {
  readonly state: "done" | "failed" | "cancelled" | "interrupted" | "incomplete";
  /** If the state is `done` but the answer is not complete: `length`, `content_filter`, `tool_calls`. */
  readonly reason?: string;
  /** If the state is not `done`: a description of the failure. */
  readonly message?: string;
  /** The class of failure. */
  readonly kind?: string;
  /** Whether the same request may succeed later, and after how many milliseconds. */
  readonly retryable?: boolean;
  readonly retryAfter?: number;
}

/** A part of an answer. */
export type Part =
  | { readonly type: "text"; readonly text: string }
  /** A named event that is not part of the text, such as `status` or `sources`. */
  | { readonly type: "note"; readonly name: string; readonly data: unknown }
  | { readonly type: "finish"; readonly finish: Finish };

/** Reads the events of one answer. Undefined: the event has no part. */
export type PartReader = (event: StreamEvent) => Part | undefined;

const DONE = "[DONE]";
const STATES = ["cancelled", "interrupted", "incomplete"] as const;

interface Members {
  [name: string]: unknown;
}

/** Creates a reader for one answer: some dialects send the finish reason before the last event. */
export function partReader(dialect: Dialect): PartReader {
  return READERS[dialect]();
}

const READERS: Record<Dialect, () => PartReader> = { plain, json: () => json, envelope: () => envelope, openai };

function plain(): PartReader {
  let reason: string | undefined;
  return ({ type, data }) => {
    switch (type) {
      case "message":
        return data === DONE ? done(reason) : text(data);
      case "finish":
        reason = String(members(data)["reason"]);
        return undefined;
      case "failure":
        return failed(members(data), "message");
      default:
        return note(type, parseJson(data) ?? data);
    }
  };
}

function json({ type, data }: StreamEvent): Part | undefined {
  if (type !== "message") return note(type, parseJson(data) ?? data);
  const said = members(data);
  if (said["done"] === true) return done(said["reason"]);
  if ("error" in said) return failed(said, "error");
  return text(said["content"]);
}

function envelope({ type, data }: StreamEvent): Part | undefined {
  const said = members(data);
  switch (type) {
    case "token":
      return text((said["data"] as Members | null)?.["token"]);
    case "complete":
      return done(said["reason"]);
    case "error":
      return failed(said, "message");
    default:
      return note(type, said["data"]);
  }
}

function openai(): PartReader {
  let reason: string | undefined;
  return ({ data }) => {
    if (data === DONE) return done(reason === "stop" ? undefined : reason);
    const said = members(data);
    if ("error" in said) {
      const error = said["error"] as Members;
      return failed({ ...error, kind: error["code"] }, "message");
    }
    const choice = (said["choices"] as Members[] | undefined)?.[0];
    if (typeof choice?.["finish_reason"] === "string") reason = choice["finish_reason"];
    const delta = choice?.["delta"] as Members | undefined;
    // A refusal is what there is to read instead of an answer.
    return text(delta?.["content"] || delta?.["refusal"]);
  };
}

function text(value: unknown): Part | undefined {
  return typeof value === "string" && value !== "" ? { type: "text", text: value } : undefined;
}

function note(name: string, data: unknown): Part {
  return { type: "note", name, data };
}

function done(reason: unknown): Part {
  return { type: "finish", finish: { state: "done", ...(typeof reason === "string" && { reason }) } };
}

function failed(said: Members, message: string): Part {
  const { kind, retryable, retry_after: after } = said;
  const state = STATES.find((one) => one === said["state"] || one === kind) ?? "failed";
  return {
    type: "finish",
    finish: {
      state,
      message: String(said[message]),
      ...(typeof kind === "string" && { kind }),
      ...(typeof retryable === "boolean" && { retryable }),
      ...(typeof after === "number" && { retryAfter: after * 1000 }),
    },
  };
}

function members(data: string): Members {
  const value = parseJson(data);
  return typeof value === "object" && value !== null ? (value as Members) : {};
}
