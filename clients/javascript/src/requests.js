import { WebRocketError, refusal } from './errors.js';

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
export class Requests {
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
