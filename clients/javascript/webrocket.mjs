/*! webrocket 0.1.0 | MIT OR Apache-2.0 | built from clients/javascript/src */

/** What the client reports and rejects with. */
class WebRocketError extends Error {
  /**
   * @param {number|string} code the protocol's number, or one of the client's own words (README, "Errors")
   * @param {string} message what happened, for people
   * @param {{ status?: string, reason?: string, cause?: unknown }} [details] `status` and `reason` as the server
   *   gave them; `cause` is the error behind this one
   */
  constructor(code, message, { status, reason, cause } = {}) {
    super(message);
    this.name = 'WebRocketError';
    this.code = code;
    this.status = status;
    this.reason = reason;
    if (cause !== undefined) this.cause = cause;
  }
}

/** The error that an `:error` of the server stands for; `subject` says what was asked. */
function refusal(subject, { code, status, reason }) {
  const message = `${subject}: ${code} ${status}${reason ? ` (${reason})` : ''}`;
  return new WebRocketError(code, message, { status, reason });
}

/**
 * Handlers by event name.
 *
 * A handler that throws harms neither the client nor the other handlers: its error goes to `reportError` where there
 * is one, to the console elsewhere.
 */
class Emitter {
  /** @param {string[]} [names] the events that exist; without, every name is one */
  constructor(names) {
    this._names = names;
    this._handlers = new Map(); // name → Map of handler → whether it is called only once
  }

  /**
   * Calls `handler` at every `name`, in the order of registration. Registering a handler twice is registering it once.
   *
   * @returns {() => void} takes the handler off again
   */
  on(name, handler) {
    this._register(name, handler, false);
    return () => this.off(name, handler);
  }

  /** Like {@link on}, for the next time only. */
  once(name, handler) {
    this._register(name, handler, true);
    return () => this.off(name, handler);
  }

  /** Takes `handler` off; without a handler, all of `name`. */
  off(name, handler) {
    const handlers = this._handlers.get(name);
    if (!handlers) return;
    if (handler) handlers.delete(handler);
    else handlers.clear();
    if (handlers.size === 0) this._handlers.delete(name);
  }

  _register(name, handler, once) {
    if (this._names && !this._names.includes(name)) {
      throw new TypeError(`there is no event "${name}", only ${this._names.join(', ')}`);
    }
    if (typeof handler !== 'function') throw new TypeError(`the handler of "${name}" is not a function`);
    if (!this._handlers.has(name)) this._handlers.set(name, new Map());
    const handlers = this._handlers.get(name);
    if (!once || !handlers.has(handler)) handlers.set(handler, once);
  }

  /** Calls the handlers of `name` and returns whether there were any. */
  _emit(name, ...values) {
    const handlers = this._handlers.get(name) || new Map();
    const calls = [...handlers];
    for (const [handler, once] of calls) {
      if (!handlers.has(handler)) continue; // An earlier one took it off.
      if (once) this.off(name, handler);
      try {
        handler(...values);
      } catch (error) {
        report(error);
      }
    }
    return calls.length > 0;
  }
}

/** Tells the page, or whoever reads the console, of an error that nobody else will hear of. */
function report(error) {
  if (typeof globalThis.reportError === 'function') globalThis.reportError(error);
  else console.error(error);
}

/** The longest time that timers can measure, in milliseconds. */
const TIMER_MS_MAX = 2 ** 31 - 1;

const RECONNECT_DEFAULTS = { minDelay: 500, maxDelay: 30000, factor: 2, jitter: 0.5, maxAttempts: Infinity };

/**
 * The address of a vhost as WebSockets want it, from `ws(s)://` or `http(s)://` or, on a page, relative to the page.
 * Its query stays; a fragment and slashes at the end of the path go.
 */
function vhostAddress(url, base = globalThis.location && globalThis.location.href) {
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
function reconnectPolicy(given) {
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
function clientOptions(given = {}) {
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

/**
 * After these close codes the same would happen again: a fault of the protocol (1002, 1003, 1007), or the vhost is
 * gone (4004). After every other one the client reconnects.
 */
const FINAL_CODES = [1002, 1003, 1007, 4004];

/** The server found the client too fast. */
const POLICY_VIOLATION = 1008;

/** The server refused a message for its length. */
const MESSAGE_TOO_BIG = 1009;

/** What a connection is said to end with when it ends without a close code. */
const ABNORMAL = 1006;

/**
 * How long to wait before reconnecting, in milliseconds; null for never.
 *
 * @param {object|null} policy the option `reconnect`
 * @param {number} attempt which attempt in a row this is, from 1
 * @param {number} code what the connection was closed with
 */
function delayBefore(policy, attempt, code, random = Math.random) {
  if (!policy || attempt > policy.maxAttempts || FINAL_CODES.includes(code)) return null;
  const grown = Math.min(policy.maxDelay, policy.minDelay * policy.factor ** (attempt - 1));
  const delay = code === POLICY_VIOLATION ? policy.maxDelay : grown;
  return Math.round(delay * (1 - policy.jitter * random()));
}

/**
 * What sessions authenticate with: a single access token, a function that gets one, or a user with a secret.
 *
 * A token lets one session in, once. So a function is asked for a fresh one each time, and a token given as a string
 * is `spent` as soon as the server has judged it.
 */
class Credentials {
  constructor(given) {
    const isUser = given && typeof given.user === 'string';
    if (!(typeof given === 'function' || (typeof given === 'string' && given) || isUser)) {
      throw new TypeError('to authenticate takes a token, a function that returns one, or { user, secret }');
    }
    this._given = given;
    this._spent = false;
  }

  /** The server has judged them. */
  judged() {
    this._spent = typeof this._given === 'string';
  }

  /** Whether they are of no further use. */
  get spent() {
    return this._spent;
  }

  /** The payload of an `auth` request. A function gets `timeout` milliseconds to find a token. */
  async payload(timeout) {
    if (this._spent) {
      throw new WebRocketError(
        'token-spent',
        'a token authenticates only once: the new session stays anonymous; give a function that gets fresh tokens',
      );
    }
    if (typeof this._given === 'string') return { token: this._given };
    if (typeof this._given === 'object') return { user: this._given.user, secret: this._given.secret };
    const token = await this._ask(timeout);
    if (typeof token === 'string' && token) return { token };
    throw new WebRocketError('token-failed', `the token function returned no token but ${typeof token}`);
  }

  async _ask(timeout) {
    let timer;
    const expired = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no token within ${timeout} ms`)), timeout);
    });
    try {
      return await Promise.race([(0, this._given)(), expired]);
    } catch (cause) {
      throw new WebRocketError('token-failed', 'the token function failed', { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The most requests on their way at once; a server takes up as many before it stops reading. */
const OUTSTANDING_MAX = 256;

/**
 * The requests of a client: those that wait, in order, and those that are on their way.
 *
 * It knows no socket: `connected` gives it a function to send with, `lost` takes it away. The queue flows only between
 * `resume` and `pause`. A request is told its end by exactly one call of `answered` or `failed`, unless it is sent
 * again (`redo`, or as what restores a subscription).
 *
 * @typedef {object} Request
 * @property {number} ref matches the answer to the request
 * @property {string} subject what is asked, for messages; holds no secrets
 * @property {string} text the message
 * @property {(payload: object) => void} answered
 * @property {(error: WebRocketError) => void} failed
 * @property {boolean} [vital] the session is in an unknown state when no answer comes
 * @property {boolean} [redo] done again on the next connection when this one is lost
 * @property {boolean} [restores] answered before; it is sent again to get back what it got then
 *
 * @typedef {object} Turn something in the queue that takes the connection for itself: it pauses the queue when it is
 *   at its head, and stays there until `finish`
 * @property {() => void} start
 * @property {(error: WebRocketError) => void} failed
 */
class Requests {
  /** `abandon(reason)` is called when a vital request has got no answer in time. */
  constructor({ queueMax, timeout, abandon }) {
    this._queueMax = queueMax;
    this._timeout = timeout;
    this._abandon = abandon;
    this._lastRef = 0;
    this._again = []; // goes before the queue, unbounded: as much as there was on the last connection
    this._queue = [];
    this._outstanding = new Map(); // ref → request, in the order of sending
    this._transmit = null;
    this._flowing = false;
  }

  /** A request, written down as it is now: later changes of `payload` change nothing. */
  create(name, payload, handlers) {
    this._lastRef += 1;
    const ref = this._lastRef;
    const object = payload.channel || payload.event;
    return {
      ref,
      subject: typeof object === 'string' ? `${name} ${object}` : name,
      text: JSON.stringify({ [name]: { ...payload, ref } }),
      ...handlers,
    };
  }

  /**
   * Sends a request or turn once everything before it is sent.
   *
   * @throws {WebRocketError} `queue-full`
   */
  enqueue(request) {
    const waits = !this._flowing || this._queue.length > 0 || this._outstanding.size >= OUTSTANDING_MAX;
    if (waits && this._queue.length >= this._queueMax) {
      throw new WebRocketError('queue-full', `${this._queue.length} requests wait already`);
    }
    this.enqueueLast(request);
  }

  /** {@link enqueue} without a bound. */
  enqueueLast(request) {
    this._queue.push(request);
    this._pump();
  }

  /** There is a connection: `transmit(text)` sends. */
  connected(transmit) {
    this._transmit = transmit;
  }

  /** Lets the queue flow; `again` goes first. */
  resume(again = []) {
    this._again.unshift(...again);
    this._flowing = true;
    this._pump();
  }

  /** Takes a turn that is over out of the queue. */
  finish(turn) {
    if (this._queue[0] === turn) this._queue.shift();
  }

  /** Sends now, whatever waits. */
  send(request) {
    this._outstanding.set(request.ref, request);
    request.timer = setTimeout(() => this._overdue(request), this._timeout);
    this._transmit(request.text);
  }

  /** An answer has come. One that came too late finds nobody. */
  answer(ref, payload) {
    const request = this._take(ref);
    if (request) request.answered(payload);
    this._pump();
  }

  /** An `:error` has come for a request. */
  refuse(ref, payload) {
    const request = this._take(ref);
    if (request) request.failed(refusal(request.subject, payload));
    this._pump();
  }

  /**
   * The connection is lost. On the next one go first: `restored`, then what was on its way and may be done twice (with
   * `redo`), then what waited. All else that was on its way fails: it may or may not have been carried out.
   */
  lost(restored, redo) {
    const outstanding = this._disconnect();
    this._again.unshift(...restored, ...outstanding.filter((request) => redo && request.redo));
    for (const request of outstanding) if (!(redo && request.redo)) request.failed(connectionLost(request));
  }

  /** There will be no connection any more. */
  end() {
    const outstanding = this._disconnect();
    const waiting = [...this._again.splice(0), ...this._queue.splice(0)];
    for (const request of outstanding.filter(({ redo }) => !redo)) request.failed(connectionLost(request));
    for (const request of [...outstanding.filter(({ redo }) => redo), ...waiting]) {
      request.failed(new WebRocketError('closed', 'the client was closed'));
    }
  }

  _pump() {
    while (this._flowing && this._outstanding.size < OUTSTANDING_MAX) {
      const queue = this._again.length > 0 ? this._again : this._queue;
      if (queue.length === 0) return;
      if (queue[0].start) {
        this._flowing = false;
        queue[0].start();
      } else {
        this.send(queue.shift());
      }
    }
  }

  _take(ref) {
    const request = this._outstanding.get(ref);
    if (!request) return undefined;
    clearTimeout(request.timer);
    this._outstanding.delete(ref);
    return request;
  }

  _disconnect() {
    this._transmit = null;
    this._flowing = false;
    return [...this._outstanding.keys()].map((ref) => this._take(ref));
  }

  _overdue(request) {
    const reason = `${request.subject}: no answer within ${this._timeout} ms`;
    if (!request.restores) {
      this._take(request.ref);
      request.failed(new WebRocketError('timeout', reason));
    }
    if (request.vital) this._abandon(reason);
    else this._pump();
  }
}

function connectionLost({ subject }) {
  return new WebRocketError('connection-lost', `${subject}: the connection was lost before an answer came`);
}

const CHANNEL_EVENTS = ['subscribed', 'unsubscribed', 'online', 'offline', 'received'];

/** "Not subscribed": what a session is told that leaves a channel in which it is not. */
const NOT_SUBSCRIBED = 453;

/**
 * A channel of a vhost, whether joined or not. `WebRocket.channel` makes them, one for each name.
 *
 * Its state follows from three requests: the join that holds (or is to be had again after a reconnection), and the
 * join and the leave that are pending.
 */
class Channel extends Emitter {
  /** Made by the client, which gives it four of its functions: `create`, `enqueue`, `ask` and `complain`. */
  constructor(name, client) {
    super(CHANNEL_EVENTS);
    /** Its name. */
    this.name = name;
    /** Who the session is in here; null in open channels and while not joined. */
    this.uid = null;
    this._client = client;
    this._broadcasts = new Emitter();
    this._subscription = null;
    this._joining = null;
    this._leaving = null;
    this._subscribers = new Map();
    this._unlisted = 0;
  }

  /** `left`, `joining` (also again, after a reconnection), `joined` or `leaving`. */
  get state() {
    if (this._leaving) return 'leaving';
    if (this._joining) return 'joining';
    return this._subscription ? 'joined' : 'left';
  }

  /** Who is in a presence channel, `uid` → data: a live Map, to be read only. Empty elsewhere. */
  get subscribers() {
    return this._subscribers;
  }

  /** How many are in a presence channel, also where the list was too long to be sent whole. */
  get subscriberCount() {
    return this._subscribers.size + this._unlisted;
  }

  /** Broadcasts of one event in this channel: `on`, `once`, `off`, `fire`. */
  event(name) {
    return new ChannelEvent(this, name);
  }

  /**
   * Joins, and joins again after each reconnection until it is left.
   *
   * @param {object} [options]
   * @param {object} [options.data] what others see of this subscriber in a presence channel
   * @param {boolean} [options.hidden] join a presence channel without being listed
   * @returns {Promise<Channel>} this channel, once joined; while joined or joining, options are ignored
   */
  join({ data, hidden } = {}) {
    return new Promise((resolve, reject) => {
      if (this.state === 'joined') {
        resolve(this);
        return;
      }
      if (this.state !== 'joining') this._join({ channel: this.name, data, hidden });
      this._joining.waiting.push({ resolve: () => resolve(this), reject });
    });
  }

  /**
   * Leaves. Resolves also if it was not joined.
   *
   * @param {object} [options]
   * @param {object} [options.data] what others are told with the farewell, over the data of the join
   * @returns {Promise<void>}
   */
  leave({ data } = {}) {
    return new Promise((resolve, reject) => {
      if (this.state === 'left') {
        resolve();
        return;
      }
      if (this.state !== 'leaving') this._leave({ channel: this.name, data });
      this._leaving.waiting.push({ resolve, reject });
    });
  }

  /**
   * Broadcasts to all subscribers of the channel, the sender too.
   *
   * @param {string} event
   * @param {unknown} [data] any JSON value; what is no object arrives as `{ data: value }`
   * @param {object} [options]
   * @param {string} [options.trigger] an event to trigger at a backend, with the same data
   * @returns {Promise<void>} resolves once the server has given the broadcast its place in the channel's order
   */
  broadcast(event, data, { trigger } = {}) {
    return this._client.ask('broadcast', { channel: this.name, event, data, trigger });
  }

  _join(payload) {
    const join = this._client.create('subscribe', payload, {
      vital: true,
      redo: true,
      answered: (answer) => this._joined(join, answer),
      failed: (error) => this._refused(join, error),
    });
    join.waiting = [];
    this._client.enqueue(join);
    this._joining = join;
    this._leaving = null;
  }

  _joined(join, { uid = null, subscribers = [], total = subscribers.length }) {
    if (this._joining === join) this._joining = null;
    this._subscription = join;
    this.uid = uid;
    this._subscribers.clear();
    for (const { uid: member, ...data } of subscribers) this._subscribers.set(member, data);
    this._unlisted = total - subscribers.length;
    const rejoined = Boolean(join.restores);
    join.restores = true;
    for (const { resolve } of join.waiting.splice(0)) resolve();
    this._emit('subscribed', { rejoined });
  }

  _refused(join, error) {
    if (this._joining === join) this._joining = null;
    if (join.restores) {
      this._over('refused', error);
      this._client.complain(error);
    }
    for (const { reject } of join.waiting.splice(0)) reject(error);
  }

  _leave(payload) {
    const leave = this._client.create('unsubscribe', payload, {
      vital: true,
      redo: true,
      answered: () => this._left(leave),
      failed: (error) => this._stayed(leave, error),
    });
    leave.waiting = [];
    this._client.enqueue(leave);
    this._leaving = leave;
  }

  _left(leave) {
    if (this._leaving === leave) this._leaving = null;
    if (this._subscription) this._over('left');
    for (const { resolve } of leave.waiting.splice(0)) resolve();
  }

  _stayed(leave, error) {
    if (error.code === NOT_SUBSCRIBED || error.code === 'closed') {
      this._left(leave);
      return;
    }
    if (this._leaving === leave) this._leaving = null;
    for (const { reject } of leave.waiting.splice(0)) reject(error);
  }

  /** The subscription is over, told once. */
  _over(reason, error) {
    this._subscription = null;
    this.uid = null;
    this._subscribers.clear();
    this._unlisted = 0;
    this._emit('unsubscribed', { reason, error });
  }

  /** The server has ended the subscription: the channel is closed, or the right to read it is lost. */
  _closed() {
    if (this._subscription) this._over('closed');
  }

  /** The session has lost its subscription: the request that gets it back, if it had one. */
  _takeSubscription() {
    const join = this._subscription;
    this._subscription = null;
    if (join && !this._joining) this._joining = join;
    return join;
  }

  /** There will be no connection any more. */
  _end() {
    const joined = this._subscription || (this._joining && this._joining.restores);
    if (this._joining) this._joining.restores = false;
    if (joined) this._over('disconnected');
  }

  _memberJoined({ uid, channel: _, ...data }) {
    this._subscribers.set(uid, data);
    this._emit('online', uid, data);
  }

  _memberLeft({ uid, channel: _, ...data }) {
    if (!this._subscribers.delete(uid)) this._unlisted = Math.max(0, this._unlisted - 1);
    this._emit('offline', uid, data);
  }

  _received(event, { channel: _, sid, ...data }) {
    const context = { event, channel: this, sid };
    this._broadcasts._emit(event, data, context);
    this._emit('received', event, data, context);
  }
}

/** One event of a channel, as `channel.event(name)` gives it. */
class ChannelEvent {
  constructor(channel, name) {
    if (typeof name !== 'string' || !name) throw new TypeError('an event has a name');
    this.name = name;
    this.channel = channel;
  }

  /**
   * Calls `handler(data, { event, channel, sid })` at every broadcast of the event; `sid` names the sender's session
   * and is undefined where a backend has sent it.
   *
   * @returns {() => void} takes the handler off again
   */
  on(handler) {
    return this.channel._broadcasts.on(this.name, handler);
  }

  /** Like {@link on}, for the next broadcast only. */
  once(handler) {
    return this.channel._broadcasts.once(this.name, handler);
  }

  /** Takes `handler` off; without one, all handlers of the event. */
  off(handler) {
    this.channel._broadcasts.off(this.name, handler);
  }

  /** Broadcasts the event, see {@link Channel#broadcast}. */
  fire(data, options) {
    return this.channel.broadcast(this.name, data, options);
  }
}

const CLIENT_EVENTS = ['connected', 'disconnected', 'reconnecting', 'authenticated', 'message', 'error'];

/**
 * A session at a vhost of a WebRocket server, kept up over lost connections.
 *
 *     idle ──► connecting ──► connected ──► closing ──► closed
 *                ▲    │           │                       │
 *                │    ▼           ▼                       │
 *                ├── waiting ◄────┘   (connection lost)   │
 *                └────────────────────────────────────────┘ connect()
 *
 * `connecting` lasts until the session has authenticated, if it is to. Requests wait in all states but `connected`;
 * `closing` and `closed` take none. From any state `close()` leads to `closed`, and so does what cannot be mended.
 */
class WebRocket extends Emitter {
  /** The class of the errors that the client rejects with and reports. */
  static get Error() {
    return WebRocketError;
  }

  /**
   * @param {string|URL} url a vhost's address: `ws(s)://host:port/vhost`, also `http(s)://`, or relative to the page
   * @param {object} [options] see README, "Options"
   */
  constructor(url, options) {
    super(CLIENT_EVENTS);
    /** The vhost's address. */
    this.url = vhostAddress(url);
    /** `idle`, `connecting`, `connected`, `waiting`, `closing` or `closed`. */
    this.state = 'idle';
    /** The session's identifier while there is one, else null. */
    this.sid = null;
    this._options = clientOptions(options);
    if (!this._options.WebSocket) {
      throw new WebRocketError(
        'no-websocket',
        "there is no global WebSocket here (as in Node before 22): import WebSocket from 'ws' and give it as option WebSocket",
      );
    }
    this._credentials = this._options.token === undefined ? null : new Credentials(this._options.token);
    this._requests = new Requests({ ...this._options, abandon: (reason) => this._abandon(reason) });
    this._channels = new Map();
    this._channelPort = {
      create: (name, payload, handlers) => this._requests.create(name, payload, handlers),
      enqueue: (request) => this._enqueue(request),
      ask: (name, payload) => this._ask(name, payload),
      complain: (error) => this._complain(error),
    };
    this._socket = null;
    this._timer = null; // while connecting the patience, while waiting the delay, then what forgets the attempts
    this._attempts = 0;
    this._connections = 0;
    this._closing = []; // those who wait for the end of `close`
    if (this._options.autoConnect) this.connect();
  }

  /** Connects, if nothing is under way: from `waiting` at once, and also again after `closed`. */
  connect() {
    if (this._socket) return;
    const socket = new this._options.WebSocket(this.url, ['wwfp']);
    this._setState('connecting');
    const { timeout } = this._options;
    this._timer = setTimeout(() => this._abandon(`no greeting within ${timeout} ms`), timeout);
    this._socket = socket;
    socket.onmessage = ({ data }) => {
      if (socket === this._socket) this._heard(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this._socket) this._lost(code, reason);
    };
    socket.onerror = () => {}; // A close follows, which says as much.
  }

  /**
   * Ends the session. What was asked for before is still sent, if there is a connection.
   *
   * @param {object} [data] what the others in presence channels are told with the farewell
   * @returns {Promise<void>} resolves when all is closed; rejects if the server would not take `data`
   */
  close(data = {}) {
    return new Promise((resolve, reject) => {
      if (this.state === 'closed') {
        resolve();
        return;
      }
      if (this.state === 'connected') this._sendClose(data);
      if (this.state === 'closing') {
        this._closing.push({ resolve, reject });
        return;
      }
      this._end(1000, '');
      resolve();
    });
  }

  /**
   * Authenticates the session, and all later ones in the same way.
   *
   * @param {string|(() => string|Promise<string>)|{user: string, secret?: string}} credentials a single access token
   *   (for one session), a function that gets a fresh one for every session, or a user
   * @returns {Promise<void>} a refusal leaves everything as it was
   */
  authenticate(credentials) {
    return new Promise((resolve, reject) => {
      const candidate = new Credentials(credentials);
      const turn = { start: () => this._authenticateAnew(candidate, turn), answered: resolve, failed: reject };
      this._enqueue(turn);
    });
  }

  /** The channel of that name, always the same object; it need not be joined. */
  channel(name) {
    if (typeof name !== 'string' || !name) throw new TypeError('a channel has a name');
    if (!this._channels.has(name)) this._channels.set(name, new Channel(name, this._channelPort));
    return this._channels.get(name);
  }

  /** Joins a channel, see {@link Channel#join}. */
  async join(name, options) {
    return this.channel(name).join(options);
  }

  /**
   * Triggers an event at a backend.
   *
   * @returns {Promise<void>} resolves once a backend has been found to handle it
   */
  trigger(event, data) {
    return this._ask('trigger', { event, data });
  }

  /** Opens a channel; needs the right MANAGE. @returns {Promise<void>} */
  openChannel(name) {
    return this._ask('openChannel', { channel: name });
  }

  /** Closes a channel; needs the right MANAGE. @returns {Promise<void>} */
  closeChannel(name) {
    return this._ask('closeChannel', { channel: name });
  }

  _ask(name, payload) {
    return new Promise((resolve, reject) => {
      this._enqueue(this._requests.create(name, payload, { answered: () => resolve(), failed: reject }));
    });
  }

  _enqueue(request) {
    if (this.state === 'closing' || this.state === 'closed') {
      throw new WebRocketError('closed', 'the client is closed');
    }
    this._requests.enqueue(request);
  }

  /** Tells of an error that no promise tells of. */
  _complain(error) {
    if (!this._emit('error', error)) report(error);
  }

  _setState(state) {
    clearTimeout(this._timer);
    this._timer = null;
    this.state = state;
  }

  _heard(text) {
    let name;
    let payload;
    try {
      if (typeof text !== 'string') throw new TypeError('a binary message');
      [[name, payload]] = Object.entries(JSON.parse(text));
      if (typeof payload !== 'object' || !payload) throw new TypeError(`the payload of ${name} is no object`);
    } catch (cause) {
      this._complain(new WebRocketError('bad-message', 'the server sent what is not WWFP', { cause }));
      return;
    }
    if (name.startsWith(':')) this._told(name, payload);
    else this._received(name, payload);
  }

  /** The server itself speaks. What a later version of it may say besides is ignored. */
  _told(name, payload) {
    const { ref } = payload;
    const channel = this._channels.get(payload.channel);
    if (name === ':connected' && !this.sid) this._greeted(payload);
    else if (name === ':memberJoined') channel?._memberJoined(payload);
    else if (name === ':memberLeft') channel?._memberLeft(payload);
    else if (name === ':error' && ref !== undefined) this._requests.refuse(ref, payload);
    else if (name === ':error') this._complain(refusal('the server says', payload));
    else if (ref !== undefined) this._requests.answer(ref, payload);
    else if (name === ':unsubscribed') channel?._closed();
  }

  /** A broadcast, or a direct message to this session, which names no channel. */
  _received(event, payload) {
    const channel = this._channels.get(payload.channel);
    if (channel && channel.state !== 'left') channel._received(event, payload);
    else this._emit('message', event, payload);
  }

  async _greeted({ sid }) {
    const socket = this._socket;
    clearTimeout(this._timer);
    this.sid = sid;
    this._requests.connected((text) => socket.send(text));
    if (this._credentials && !(await this._authenticateAgain())) return;
    this._setState('connected');
    this._connections += 1;
    const { reconnect } = this._options;
    // Only a connection that lasts is a success: a server that dies at once is not to be hammered.
    if (reconnect) this._timer = setTimeout(() => (this._attempts = 0), reconnect.maxDelay);
    this._requests.resume();
    this._emit('connected', { sid, reconnected: this._connections > 1 });
  }

  /** Authenticates a new session like the one before it. Returns whether to go on with this connection. */
  async _authenticateAgain() {
    const socket = this._socket;
    const credentials = this._credentials;
    try {
      await this._present(credentials);
    } catch (error) {
      if (socket !== this._socket) return false;
      this._complain(error);
      // What may pass is tried again with the next connection. A refusal stands: better anonymous than offline.
      if (error.code === 'token-failed' || error.code >= 500) this._abandon(error.message);
      else if (credentials.spent) this._credentials = null;
    }
    return socket === this._socket;
  }

  /** Authenticates in the middle of a session, which drops its subscriptions, so that they are to be had anew. */
  async _authenticateAnew(credentials, turn) {
    const socket = this._socket;
    let failure = null;
    try {
      await this._present(credentials);
      this._credentials = credentials;
    } catch (error) {
      // With the connection lost, the turn stays first in the queue and comes again.
      if (socket !== this._socket && error.code !== 'timeout') return;
      failure = error;
    }
    this._requests.finish(turn);
    if (failure) turn.failed(failure);
    else turn.answered();
    if (socket === this._socket) this._requests.resume(failure ? [] : this._takeSubscriptions());
  }

  async _present(credentials) {
    const socket = this._socket;
    const payload = await credentials.payload(this._options.timeout);
    if (socket !== this._socket) throw new WebRocketError('connection-lost', 'auth: the connection was lost');
    await new Promise((answered, reject) => {
      const failed = (error) => {
        if (typeof error.code === 'number') credentials.judged();
        reject(error);
      };
      this._requests.send(this._requests.create('auth', payload, { vital: true, answered, failed }));
    });
    credentials.judged();
    this._emit('authenticated');
  }

  /** The requests that get the session's subscriptions back. */
  _takeSubscriptions() {
    return [...this._channels.values()].map((channel) => channel._takeSubscription()).filter(Boolean);
  }

  /** Gives up a connection that may be open still. */
  _abandon(reason) {
    this._lost(ABNORMAL, reason);
  }

  _lost(code, reason) {
    const wasConnected = this.state === 'connected';
    const { reconnect } = this._options;
    const delay = this.state === 'closing' ? null : delayBefore(reconnect, this._attempts + 1, code);
    if (delay === null) {
      this._end(code, reason);
      return;
    }
    this._dropSocket();
    this._setState('waiting');
    this._timer = setTimeout(() => this.connect(), delay);
    this._attempts += 1;
    const attempt = this._attempts;
    this._requests.lost(this._takeSubscriptions(), code !== MESSAGE_TOO_BIG);
    // Handlers may connect or close.
    if (wasConnected) this._emit('disconnected', { code, reason, final: false });
    if (this.state === 'waiting') this._emit('reconnecting', { attempt, delay, code, reason });
  }

  _sendClose(data) {
    if (typeof data !== 'object' || !data || Array.isArray(data)) throw new TypeError('the data of a close is an object');
    const close = this._requests.create('close', data, {
      answered: () => this._end(1000, ''),
      failed: (error) => this._end(1000, '', typeof error.code === 'number' ? error : null),
    });
    this._setState('closing');
    this._requests.enqueueLast(close);
  }

  _end(code, reason, refused = null) {
    if (this.state === 'closed') return;
    const wasIdle = this.state === 'idle';
    this._dropSocket();
    this._setState('closed');
    this._attempts = 0;
    for (const channel of this._channels.values()) channel._end();
    this._requests.end();
    for (const { resolve, reject } of this._closing.splice(0)) {
      if (refused) reject(refused);
      else resolve();
    }
    if (!wasIdle) this._emit('disconnected', { code, reason, final: true });
  }

  _dropSocket() {
    const socket = this._socket;
    this._socket = null;
    this.sid = null;
    if (socket) socket.close(1000);
  }
}

export { WebRocket, WebRocketError, WebRocket as default };
