/** What becomes of a stream while its page is hidden. */
export type WhenHidden = "pause" | "stay";

/**
 * Whether the page is there: visible, unless hidden pages count too, and not left. A page that is left may be kept by the
 * browser (back/forward cache), where an open connection would keep it from being restored, or be cut.
 *
 * Outside browsers there is no page, and it is always there.
 */
export class Page {
  #left = false;
  readonly #whenHidden: WhenHidden;
  readonly #listening = new AbortController();

  /** `onChange` is called when `present` may have changed, `onOnline` when the network is back. */
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
