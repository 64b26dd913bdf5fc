import { onTestFinished, vi } from "vitest";

import type { EventStream, State } from "../src/index.js";
import { ScriptedServer, type Exchange } from "./scripted_server.js";

/** A server for this test; its address. */
export async function serve(exchanges: Exchange[]): Promise<{ url: string; server: ScriptedServer }> {
  const server = new ScriptedServer(exchanges);
  const port = await server.start();
  onTestFinished(() => server.stop());
  return { url: `http://127.0.0.1:${port}/stream`, server };
}

/** A page that the test hides, shows and leaves. */
export class FakePage {
  readonly document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  readonly window = new EventTarget();

  constructor() {
    vi.stubGlobal("document", this.document);
    vi.stubGlobal("window", this.window);
    onTestFinished(() => void vi.unstubAllGlobals());
  }

  show(visible: boolean): void {
    this.document.visibilityState = visible ? "visible" : "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  dispatch(type: "pagehide" | "pageshow" | "online"): void {
    this.window.dispatchEvent(new Event(type));
  }
}

export async function reached(stream: EventStream, state: State): Promise<void> {
  await vi.waitFor(() => {
    if (stream.state !== state) throw new Error(`the stream is ${stream.state}, not ${state}`);
  }, 10_000);
}

export function event(id: number | string, data = `${id}`): string {
  return `data: ${data}\nid: ${id}\n\n`;
}
