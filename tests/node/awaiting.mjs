// What tests await, and for how long.

import assert from 'node:assert/strict';

// The real ones, whatever a test puts in their place.
const { setTimeout, clearTimeout } = globalThis;

/** Bound of every wait. It turns a hang into a failure and measures nothing: a busy machine keeps within it. */
export const PATIENCE_MS = 60_000;

/** Rejects with `what` if `promise` has not settled within `PATIENCE_MS`. */
export async function within(promise, what) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`gave up waiting for ${what}`)), PATIENCE_MS);
    // What a test has ceased to wait for must not keep the process.
    timer.unref();
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/** What the next `name` of a client, channel or channel event brings; several values as an array. */
export function heard(emitter, name) {
  const promise = new Promise((resolve) => {
    const handler = (...values) => resolve(values.length > 1 ? values : values[0]);
    if (name === undefined) emitter.once(handler);
    else emitter.once(name, handler);
  });
  return within(promise, name ?? emitter.name);
}

/** Fails unless `promise` rejects with a WebRocketError of this code, which it resolves to. */
export async function rejected(promise, code) {
  const error = await within(promise.then(() => undefined, (reason) => reason), `the rejection with ${code}`);
  assert.equal(error?.name, 'WebRocketError', `${error}`);
  assert.equal(error.code, code, error.message);
  return error;
}

/** The subscribers of a channel of the client. */
export const members = (channel) => Object.fromEntries(channel.subscribers);
