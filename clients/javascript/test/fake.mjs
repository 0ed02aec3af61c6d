// A server for the client's tests that says what a test wants it to say, over real sockets on the loopback.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createRequire } from 'node:module';

import { PATIENCE_MS, heard, within } from '../../../tests/node/awaiting.mjs';
import { WebRocket } from '../webrocket.mjs';

/** `ws` stands with the process tests, so that this package needs nothing installed. */
const require = createRequire(new URL('../../../tests/node/package.json', import.meta.url));
export const WebSocket = require('ws');

/** Reconnects at once, so that no test waits for a delay. */
export const EAGER = { minDelay: 0, maxDelay: 1, jitter: 0 };

/** What a server answers that finds everything in order: request → payload → answer. */
const CONTENT = {
  auth: () => ({ ':authenticated': {} }),
  subscribe: ({ channel }) => ({ ':subscribed': { channel } }),
  unsubscribe: ({ channel }) => ({ ':unsubscribed': { channel } }),
  broadcast: () => ({ ':ok': { code: 204, status: 'Broadcasted' } }),
  trigger: () => ({ ':ok': { code: 205, status: 'Triggered' } }),
  openChannel: ({ channel }) => ({ ':channelOpened': { channel } }),
  closeChannel: ({ channel }) => ({ ':channelClosed': { channel } }),
  close: (_, { sid }) => ({ ':closed': { sid } }),
};

export const refuse = (code, status, reason) => () => ({ ':error': { code, status, ...(reason && { reason }) } });
export const silence = () => null;

/** One connection of a client. */
class Session {
  #heard = [];
  #waiting = [];

  constructor(socket, server) {
    this.sid = randomUUID();
    this.socket = socket;
    /** All requests so far, without their refs: `[name, payload]`. */
    this.requests = [];
    this.refs = [];
    this.ended = once(socket, 'close').then(([code]) => code);
    socket.on('message', (data) => {
      const [[name, { ref, ...payload }]] = Object.entries(JSON.parse(data.toString()));
      this.requests.push([name, payload]);
      this.refs.push(ref);
      const answer = server.answers[name](payload, this);
      if (answer) {
        const [[event, content]] = Object.entries(answer);
        this.tell({ [event]: { ...content, ref } });
      }
      if (answer?.[':closed']) socket.close(1000);
      const waiting = this.#waiting.shift();
      if (waiting) waiting([name, payload]);
      else this.#heard.push([name, payload]);
    });
  }

  tell(message) {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** The next request that was not heard yet; it is answered already. */
  hear() {
    if (this.#heard.length > 0) return Promise.resolve(this.#heard.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), 'a request');
  }
}

/** Starts a server that is gone when test `t` is over. `answers` take the place of those in `CONTENT`. */
export async function startServer(t, answers = {}) {
  const listener = new WebSocket.Server({ host: '127.0.0.1', port: 0, handleProtocols: () => 'wwfp' });
  await once(listener, 'listening');
  const server = {
    url: `ws://127.0.0.1:${listener.address().port}/world`,
    answers: { ...CONTENT, ...answers },
    greets: true,
    offered: [],
    sessions: [],
    arrivals: [],
    waiting: [],
    clients: [],
    /** The next session that was not taken yet. */
    session() {
      if (server.arrivals.length > 0) return Promise.resolve(server.arrivals.shift());
      return within(new Promise((resolve) => server.waiting.push(resolve)), 'a session');
    },
    /** A client of this server. */
    client(options) {
      const client = new WebRocket(server.url, { WebSocket, reconnect: EAGER, timeout: PATIENCE_MS, ...options });
      server.clients.push(client);
      return client;
    },
    /** A client and its first session, once connected. */
    async connect(options) {
      const client = server.client(options);
      const [session] = await Promise.all([server.session(), heard(client, 'connected')]);
      return [client, session];
    },
  };
  listener.on('connection', (socket, request) => {
    server.offered.push(request.headers['sec-websocket-protocol']);
    const session = new Session(socket, server);
    server.sessions.push(session);
    if (server.greets) session.tell({ ':connected': { sid: session.sid } });
    const waiting = server.waiting.shift();
    if (waiting) waiting(session);
    else server.arrivals.push(session);
  });
  t.after(() => {
    for (const client of server.clients) client.close();
    for (const { socket } of server.sessions) socket.terminate();
    listener.close();
  });
  return server;
}

/** Resolves once everything sent before by the session has been dealt with by the client. */
export async function settled(client, session) {
  const direct = heard(client, 'message');
  session.tell({ settled: {} });
  await direct;
}

/**
 * Takes time away from the client until test `t` is over: no deadline passes by itself, however slow the machine is.
 *
 * Returns what lets the next one of so many milliseconds pass, as soon as there is one. Those of `EAGER` do by themselves.
 */
export function stopTime(t) {
  const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  const pending = new Set();
  const awaited = [];
  globalThis.setTimeout = (callback, delay = 0, ...values) => {
    if (delay <= EAGER.maxDelay) return real.setTimeout(callback, delay, ...values);
    const timer = { delay, fire: () => callback(...values) };
    pending.add(timer);
    const next = awaited.findIndex((it) => it.delay === delay);
    if (next >= 0) awaited.splice(next, 1)[0].resolve();
    return timer;
  };
  globalThis.clearTimeout = (timer) => {
    if (!pending.delete(timer)) real.clearTimeout(timer);
  };
  t.after(() => Object.assign(globalThis, real));
  return async function expire(delay) {
    const due = () => [...pending].find((timer) => timer.delay === delay);
    while (!due()) await within(new Promise((resolve) => awaited.push({ delay, resolve })), `a deadline of ${delay} ms`);
    const timer = due();
    pending.delete(timer);
    timer.fire();
  };
}
