/** What happens to a stream while its page is hidden. */
export type WhenHidden = "pause" | "stay";

/**
 * Whether the page is present: not navigated away from and, with `"pause"`, visible. After navigation a browser may keep the
 * page in its back/forward cache, from which a page with an open connection may not be restored.
 *
 * Outside browsers it is always present.
 */
export class Page {
  #left = false;
  readonly #whenHidden: WhenHidden;
  readonly #listening = new AbortController();

  /** `onChange` is called when `present` may have changed, `onOnline` when the browser is online again. */
  constructor(whenHidden: WhenHidden, onChange: () => void, onOnline: () => void = () => {}) {
    this.#whenHidden = whenHidden;
    const { signal } = this.#listening;
    globalThis.document?.addEventListener?.("visibilitychange", onChange, { signal });
    const listen = globalThis.window?.addEventListener?.bind(globalThis.window);
    const leave = (left: boolean) => () => {
      this.#left = left;
      onChange();
    };
    listen?.("pagehide", leave(true), { signal });
    listen?.("pageshow", leave(false), { signal });
    listen?.("online", onOnline, { signal });
  }

  get present(): boolean {
    return !this.#left && (this.#whenHidden === "stay" || globalThis.document?.visibilityState !== "hidden");
  }

  close(): void {
    this.#listening.abort();
  }
}
