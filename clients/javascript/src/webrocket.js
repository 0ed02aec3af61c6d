import { Channel } from './channel.js';
import { Credentials } from './credentials.js';
import { Emitter, report } from './emitter.js';
import { WebRocketError, refusal } from './errors.js';
import { clientOptions, vhostAddress } from './options.js';
import { ABNORMAL, MESSAGE_TOO_BIG, delayBefore } from './reconnection.js';
import { Requests } from './requests.js';

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
export class WebRocket extends Emitter {
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
