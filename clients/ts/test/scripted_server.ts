import { createServer, type AddressInfo, type Socket } from "node:net";

/** One request that the server expects, and what it does with it. See clients/cases/README.md. */
export interface Exchange {
  expect?: { method?: string; path?: string; headers?: Record<string, string | null>; body?: string };
  status?: number;
  headers?: Record<string, string>;
  chunks?: Chunk[];
  then?: "end" | "cut" | "hold";
  /** `"cut"`: the connection is cut before the response; `"silence"`: there is none. */
  instead?: "cut" | "silence";
}

export type Chunk = string | { hex: string } | { repeat: [string, number] } | { pause: number };

export interface Request {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
  at: number;
}

/** A server that answers the n-th request with the n-th exchange, over raw sockets, so that it can break off anywhere. */
export class ScriptedServer {
  readonly requests: Request[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #used = new WeakSet<Socket>();
  readonly #exchanges: Exchange[];
  readonly #server = createServer((socket) => this.#accept(socket));
  onRequest: () => void = () => {};

  constructor(exchanges: Exchange[]) {
    this.#exchanges = exchanges;
  }

  async start(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections that carry a request. Node's fetch opens one in advance when it has closed another. */
  get open(): number {
    return [...this.#sockets].filter((socket) => this.#used.has(socket)).length;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket)).on("error", () => {});
    let received = Buffer.alloc(0);
    socket.on("data", (data) => {
      received = Buffer.concat([received, data]);
      const request = parse(received);
      if (!request) return;
      received = Buffer.alloc(0);
      this.#used.add(socket);
      const exchange = this.#exchanges[this.requests.length];
      this.requests.push(request);
      this.onRequest();
      void respond(socket, exchange ?? { status: 418 });
    });
  }
}

function parse(received: Buffer): Request | undefined {
  const end = received.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [line = "", ...fields] = received.subarray(0, end).toString("latin1").split("\r\n");
  const headers: Record<string, string> = {};
  for (const field of fields) {
    const colon = field.indexOf(":");
    headers[field.slice(0, colon).toLowerCase()] = field.slice(colon + 1).trim();
  }
  const body = received.subarray(end + 4);
  if (body.length < Number(headers["content-length"] ?? 0)) return undefined;
  const [method = "", path = ""] = line.split(" ");
  return { method, path, headers, body: body.toString(), at: performance.now() };
}

async function respond(socket: Socket, exchange: Exchange): Promise<void> {
  if (exchange.instead === "silence") return;
  if (exchange.instead === "cut") return void socket.resetAndDestroy();
  const { status = 200, chunks = [], then = "end" } = exchange;
  const bodiless = status === 204 || status === 304;
  const headers: Record<string, string> = { ...exchange.headers };
  // Not where it is cut: Node's fetch takes a reset for the end of a response whose connection is to be closed.
  if (then === "end") headers["Connection"] = "close";
  if (!bodiless) headers["Transfer-Encoding"] = "chunked";
  if (status === 200 && !("Content-Type" in headers)) headers["Content-Type"] = "text/event-stream";
  const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 ${status} Scripted\r\n${head.join("")}\r\n`);
  for (const chunk of chunks) {
    if (socket.destroyed) return;
    if (typeof chunk === "object" && "pause" in chunk) {
      await new Promise((resolve) => setTimeout(resolve, chunk.pause));
      continue;
    }
    const bytes = bytesOf(chunk);
    socket.write(`${bytes.length.toString(16)}\r\n`);
    socket.write(bytes);
    socket.write("\r\n");
    await new Promise((resolve) => setTimeout(resolve, 2)); // so that the client reads it by itself
  }
  if (then === "cut") socket.resetAndDestroy();
  if (then === "end") socket.end(bodiless ? "" : "0\r\n\r\n");
}

function bytesOf(chunk: Exclude<Chunk, { pause: number }>): Buffer {
  if (typeof chunk === "string") return Buffer.from(chunk);
  if ("hex" in chunk) return Buffer.from(chunk.hex.replaceAll(" ", ""), "hex");
  return Buffer.from(chunk.repeat[0].repeat(chunk.repeat[1]));
}
