import { gzipSync } from "node:zlib";

import { build } from "esbuild";
import { expect, it } from "vitest";

/** Bytes of a page's script that imports this, minified and compressed. */
async function size(source: string): Promise<number> {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: import.meta.dirname },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external: ["react"],
    write: false,
    logLevel: "error",
  });
  return gzipSync(outputFiles[0]!.contents, { level: 9 }).length;
}

it("`connect` has at most 8 KB, including the parser", async () => {
  const bytes = await size('export { connect } from "../src/index.js"');
  console.log(`connect, minified and compressed: ${bytes} bytes; all: ${await size('export * from "../src/index.js"')}`);
  expect(bytes).toBeLessThanOrEqual(8 * 1024);
});

it("unused exports are left out", async () => {
  expect(await size('import "../src/index.js"')).toBeLessThan(100);
  expect(await size('export { StreamError } from "../src/index.js"')).toBeLessThan(400);
});
