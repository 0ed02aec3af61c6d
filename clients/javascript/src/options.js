/** The longest time that timers can measure, in milliseconds. */
const TIMER_MS_MAX = 2 ** 31 - 1;

const RECONNECT_DEFAULTS = { minDelay: 500, maxDelay: 30000, factor: 2, jitter: 0.5, maxAttempts: Infinity };

/**
 * The address of a vhost as WebSockets want it, from `ws(s)://` or `http(s)://` or, on a page, relative to the page.
 * Its query stays; a fragment and slashes at the end of the path go.
 */
export function vhostAddress(url, base = globalThis.location && globalThis.location.href) {
  let address;
  try {
    address = new URL(url, base);
  } catch {
    throw new TypeError(`a vhost's address looks like ws://host:9772/vhost, not like "${url}"`);
  }
  address.protocol = address.protocol.replace(/^http/, 'ws');
  if (!/^wss?:$/.test(address.protocol)) {
    throw new TypeError(`a vhost's address begins with ws, wss, http or https, not with "${address.protocol}"`);
  }
  address.pathname = address.pathname.replace(/\/+$/, '');
  address.hash = '';
  return address.href;
}

/** The option `reconnect` with its defaults; null if the client shall not reconnect. */
export function reconnectPolicy(given) {
  if (given === false) return null;
  const policy = { ...RECONNECT_DEFAULTS, ...given };
  within('reconnect.minDelay', policy.minDelay, 0, TIMER_MS_MAX);
  within('reconnect.maxDelay', policy.maxDelay, policy.minDelay, TIMER_MS_MAX);
  within('reconnect.factor', policy.factor, 1, Infinity);
  within('reconnect.jitter', policy.jitter, 0, 1);
  within('reconnect.maxAttempts', policy.maxAttempts, 0, Infinity);
  return policy;
}

/** All options with their defaults, checked. */
export function clientOptions(given = {}) {
  const options = {
    token: given.token,
    autoConnect: given.autoConnect !== false,
    reconnect: reconnectPolicy(given.reconnect),
    queueMax: given.queueMax === undefined ? 1000 : given.queueMax,
    timeout: given.timeout === undefined ? 10000 : given.timeout,
    WebSocket: given.WebSocket || globalThis.WebSocket,
  };
  within('queueMax', options.queueMax, 0, Infinity);
  within('timeout', options.timeout, 1, TIMER_MS_MAX);
  return options;
}

function within(name, value, min, max) {
  if (!(typeof value === 'number' && value >= min && value <= max)) {
    throw new TypeError(`the option ${name} must be a number from ${min} to ${max}, not ${value}`);
  }
}
