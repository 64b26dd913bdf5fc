import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    testTimeout: 30_000,
    maxConcurrency: 12,
    pool: "threads",
  },
});
