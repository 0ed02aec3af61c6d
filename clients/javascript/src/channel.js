import { Emitter } from './emitter.js';

const CHANNEL_EVENTS = ['subscribed', 'unsubscribed', 'online', 'offline', 'received'];

/** "Not subscribed": what a session is told that leaves a channel in which it is not. */
const NOT_SUBSCRIBED = 453;

/**
 * A channel of a vhost, whether joined or not. `WebRocket.channel` makes them, one for each name.
 *
 * Its state follows from three requests: the join that holds (or is to be had again after a reconnection), and the
 * join and the leave that are pending.
 */
export class Channel extends Emitter {
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
export class ChannelEvent {
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
