/** Calls a callback of the caller. What it throws is reported as uncaught, and changes nothing here. */
export function call<A extends unknown[]>(callback: ((...values: A) => void) | undefined, ...values: A): void {
  try {
    callback?.(...values);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
