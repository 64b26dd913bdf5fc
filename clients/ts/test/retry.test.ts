import { expect, it, onTestFinished, vi } from "vitest";

import { backoff, boundedRetry, parseRetryAfter, spread } from "../src/retry.js";

function random(value: number): void {
  vi.spyOn(Math, "random").mockReturnValue(value);
  onTestFinished(() => void vi.restoreAllMocks());
}

it("doubles the delay for each failure, up to the cap", () => {
  random(0);
  expect([0, 1, 2, 3, 4, 5, 1e9].map((failures) => backoff(failures, 1_000, 10_000))).toEqual([
    1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000,
  ]);
});

it("never waits less than the base, whatever the cap", () => {
  random(0);
  expect(backoff(3, 60_000, 30_000)).toBe(60_000);
});

it("adds a random part of up to half of the delay", () => {
  random(0.999999);
  expect(backoff(0, 1_000, 10_000)).toBeCloseTo(1_500, 0);
});

it("is limited to the longest delay of setTimeout", () => {
  random(0.5);
  expect(spread(1e12, 0.2)).toBe(2 ** 31 - 1);
});

it("limits retry:", () => {
  expect([0, 99, 100, 3_000, 1e15].map(boundedRetry)).toEqual([100, 100, 100, 3_000, 600_000]);
});

it.each([
  ["7", null, 7_000],
  [" 0 ", null, 0],
  ["1234567890", null, undefined],
  ["-1", null, undefined],
  ["1.5", null, undefined],
  ["", null, undefined],
  [null, null, undefined],
  ["soon", null, undefined],
  ["Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 30_000],
  ["Wed, 21 Oct 2015 07:27:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 0],
])("reads Retry-After %j with Date %j as %j", (value, date, expected) => {
  expect(parseRetryAfter(value, date)).toBe(expected);
});

it("compares a date with the local clock if the response has no Date", () => {
  vi.spyOn(Date, "now").mockReturnValue(Date.UTC(2015, 9, 21, 7, 28, 0));
  onTestFinished(() => void vi.restoreAllMocks());
  expect(parseRetryAfter("Wed, 21 Oct 2015 07:28:05 GMT", null)).toBe(5_000);
});
