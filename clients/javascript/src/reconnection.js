/**
 * After these close codes the same would happen again: a fault of the protocol (1002, 1003, 1007), or the vhost is
 * gone (4004). After every other one the client reconnects.
 */
const FINAL_CODES = [1002, 1003, 1007, 4004];

/** The server found the client too fast. */
const POLICY_VIOLATION = 1008;

/** The server refused a message for its length. */
export const MESSAGE_TOO_BIG = 1009;

/** What a connection is said to end with when it ends without a close code. */
export const ABNORMAL = 1006;

/**
 * How long to wait before reconnecting, in milliseconds; null for never.
 *
 * @param {object|null} policy the option `reconnect`
 * @param {number} attempt which attempt in a row this is, from 1
 * @param {number} code what the connection was closed with
 */
export function delayBefore(policy, attempt, code, random = Math.random) {
  if (!policy || attempt > policy.maxAttempts || FINAL_CODES.includes(code)) return null;
  const grown = Math.min(policy.maxDelay, policy.minDelay * policy.factor ** (attempt - 1));
  const delay = code === POLICY_VIOLATION ? policy.maxDelay : grown;
  return Math.round(delay * (1 - policy.jitter * random()));
}
