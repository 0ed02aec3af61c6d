// The parts that need no server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';

import { Credentials } from '../src/credentials.js';
import { Emitter } from '../src/emitter.js';
import { clientOptions, reconnectPolicy, vhostAddress } from '../src/options.js';
import { delayBefore } from '../src/reconnection.js';
import { WebRocket } from '../webrocket.mjs';
import { WebSocket } from './fake.mjs';

test('addresses of vhosts', () => {
  const cases = [
    ['ws://h:9772/world', undefined, 'ws://h:9772/world'],
    ['wss://h/a/b', undefined, 'wss://h/a/b'],
    ['http://h:9772/world/', undefined, 'ws://h:9772/world'],
    ['https://h/world//#part', undefined, 'wss://h/world'],
    ['ws://h/world?x=1#part', undefined, 'ws://h/world?x=1'],
    [new URL('https://h/world'), undefined, 'wss://h/world'],
    ['/world', 'https://h:8443/page/index.html?q#f', 'wss://h:8443/world'],
    ['../world', 'http://h/a/b/page', 'ws://h/a/world'],
    ['//other/world', 'https://h/page', 'wss://other/world'],
  ];
  for (const [url, base, wanted] of cases) assert.equal(vhostAddress(url, base), wanted);
  for (const url of ['/world', '', 'world', 'ftp://h/world', undefined, null]) {
    assert.throws(() => vhostAddress(url), TypeError, `${url}`);
  }
  assert.throws(() => vhostAddress('/world', 'about:blank'), /ws:\/\/host/);
});

test('the delay grows to its bound, and jitter only shortens it', () => {
  const policy = reconnectPolicy({ minDelay: 100, maxDelay: 1000, factor: 2, jitter: 0.5 });
  const delays = (random) => [1, 2, 3, 4, 5, 5000].map((attempt) => delayBefore(policy, attempt, 1006, () => random));
  assert.deepEqual(delays(0), [100, 200, 400, 800, 1000, 1000]);
  assert.deepEqual(delays(1), [50, 100, 200, 400, 500, 500]);
  for (let round = 0; round < 100; round += 1) {
    const delay = delayBefore(policy, 3, 1006);
    assert.ok(delay >= 200 && delay <= 400, `${delay}`);
  }
});

test('which close codes end it all', () => {
  const policy = reconnectPolicy({ minDelay: 100, maxDelay: 1000, jitter: 0, maxAttempts: 7 });
  for (const code of [1002, 1003, 1007, 4004]) assert.equal(delayBefore(policy, 1, code), null, `${code}`);
  for (const code of [1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013, 4008, 4009, 4321]) {
    assert.equal(delayBefore(policy, 1, code), 100, `${code}`);
  }
  assert.equal(delayBefore(policy, 1, 1008), 1000, 'who was too fast waits longest');
  assert.notEqual(delayBefore(policy, 7, 1006), null);
  assert.equal(delayBefore(policy, 8, 1006), null);
  assert.equal(delayBefore(reconnectPolicy(false), 1, 1006), null);
});

test('options are checked', () => {
  const defaults = clientOptions();
  assert.equal(defaults.autoConnect, true);
  assert.equal(defaults.queueMax, 1000);
  assert.equal(defaults.timeout, 10_000);
  assert.deepEqual(clientOptions({ reconnect: true }).reconnect, defaults.reconnect);
  const wrong = [
    { queueMax: -1 }, { queueMax: '9' }, { timeout: 0 }, { timeout: Infinity }, { timeout: NaN },
    { reconnect: { minDelay: '1s' } }, { reconnect: { minDelay: 2, maxDelay: 1 } }, { reconnect: { factor: 0.5 } },
    { reconnect: { jitter: 2 } }, { reconnect: { maxAttempts: -1 } }, { reconnect: { maxDelay: 2 ** 31 } },
  ];
  for (const options of wrong) assert.throws(() => clientOptions(options), TypeError, inspect(options));
});

test('handlers are called in order, once each, until they are taken off', () => {
  const emitter = new Emitter();
  const calls = [];
  const first = (value) => calls.push(`first ${value}`);
  const takeOff = emitter.on('x', first);
  emitter.once('x', (value) => calls.push(`second ${value}`));
  emitter.on('x', first);
  assert.equal(emitter._emit('x', 1), true);
  emitter._emit('x', 2);
  takeOff();
  assert.equal(emitter._emit('x', 3), false);
  assert.deepEqual(calls, ['first 1', 'second 1', 'first 2']);

  emitter.once('x', first);
  emitter.on('x', first);
  emitter._emit('x', 4);
  emitter.off('x', first);
  emitter.once('x', first);
  emitter.off('x');
  emitter._emit('x', 5);
  assert.deepEqual(calls.slice(3), ['first 4']);
});

test('handlers may change the handlers while they are called', () => {
  const emitter = new Emitter();
  const calls = [];
  const late = () => calls.push('late');
  const doomed = () => calls.push('doomed');
  emitter.on('x', () => {
    emitter.off('x', doomed);
    emitter.on('x', late);
  });
  emitter.on('x', doomed);
  emitter._emit('x');
  assert.deepEqual(calls, []);
  emitter._emit('x');
  assert.deepEqual(calls, ['late']);
});

test('a mistyped event and a handler that is none are told at once', () => {
  const emitter = new Emitter(['connected']);
  assert.throws(() => emitter.on('conected', () => {}), /no event "conected", only connected/);
  assert.throws(() => emitter.on('connected'), TypeError);
  emitter.off('conected');
});

test('what a handler throws goes to reportError, else to the console', (t) => {
  const emitter = new Emitter();
  const calls = [];
  emitter.on('x', () => {
    throw new Error('mine');
  });
  emitter.on('x', () => calls.push('next'));
  const log = t.mock.method(console, 'error', () => {});
  emitter._emit('x');
  assert.match(`${log.mock.calls[0].arguments[0]}`, /mine/);
  globalThis.reportError = (error) => calls.push(error.message);
  t.after(() => delete globalThis.reportError);
  emitter._emit('x');
  assert.deepEqual(calls, ['next', 'mine', 'next']);
});

test('credentials', async () => {
  const fixed = new Credentials('t0k3n');
  assert.deepEqual(await fixed.payload(1000), { token: 't0k3n' });
  assert.equal(fixed.spent, false);
  fixed.judged();
  await assert.rejects(fixed.payload(1000), { code: 'token-spent' });

  let tokens = 0;
  const fetched = new Credentials(async () => `token ${(tokens += 1)}`);
  assert.deepEqual(await fetched.payload(1000), { token: 'token 1' });
  fetched.judged();
  assert.deepEqual(await fetched.payload(1000), { token: 'token 2' });

  const user = new Credentials({ user: 'joe', secret: 's' });
  user.judged();
  assert.deepEqual(await user.payload(1000), { user: 'joe', secret: 's' });

  const cause = new Error('offline');
  await assert.rejects(new Credentials(() => Promise.reject(cause)).payload(1000), { code: 'token-failed', cause });
  await assert.rejects(new Credentials(() => { throw cause; }).payload(1000), { code: 'token-failed', cause });
  await assert.rejects(new Credentials(() => ({ secret: 'x' })).payload(1000), { code: 'token-failed' });
  await assert.rejects(new Credentials(() => '').payload(1000), { code: 'token-failed' });
  await assert.rejects(new Credentials(() => new Promise(() => {})).payload(5), ({ code, cause: { message } }) =>
    code === 'token-failed' && message === 'no token within 5 ms');
  for (const wrong of ['', 7, null, undefined, {}, { user: 7 }]) assert.throws(() => new Credentials(wrong), TypeError);
});

test('without a WebSocket the error says what to do', { skip: 'WebSocket' in globalThis }, () => {
  assert.throws(() => new WebRocket('ws://127.0.0.1:1/x'), ({ code, message }) =>
    code === 'no-websocket' && message.includes("import WebSocket from 'ws'"));
});

test('an idle client is closed at once', async () => {
  const client = new WebRocket('ws://127.0.0.1:1/x', { WebSocket, autoConnect: false });
  assert.equal(client.state, 'idle');
  let told = 0;
  client.on('disconnected', () => (told += 1));
  const joining = client.join('news');
  await client.close();
  assert.equal(client.state, 'closed');
  await assert.rejects(joining, { code: 'closed' });
  assert.equal(told, 0, 'it was never connected');
});
