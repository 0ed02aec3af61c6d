// Connecting, asking, authenticating, closing.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { heard, rejected, within } from '../../../tests/node/awaiting.mjs';
import { EAGER, WebSocket, refuse, settled, silence, startServer, stopTime } from './fake.mjs';
import { WebRocket } from '../webrocket.mjs';

test('it connects with the subprotocol and learns its sid', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  assert.equal(client.state, 'connecting');
  assert.equal(client.sid, null);
  assert.equal(client.url, server.url);
  const told = await heard(client, 'connected');
  const session = await server.session();
  assert.deepEqual(told, { sid: session.sid, reconnected: false });
  assert.equal(client.sid, session.sid);
  assert.equal(client.state, 'connected');
  assert.deepEqual(server.offered, ['wwfp']);
});

test('connect does nothing while connecting or connected', async (t) => {
  const server = await startServer(t);
  const client = server.client({ autoConnect: false });
  client.connect();
  client.connect();
  await heard(client, 'connected');
  client.connect();
  await client.trigger('x');
  assert.equal(server.sessions.length, 1);
});

test('what is asked before there is a connection is sent in order, with refs that count up', async (t) => {
  const server = await startServer(t);
  const client = server.client({ autoConnect: false });
  const chat = client.channel('chat');
  const asked = [chat.join(), chat.broadcast('hello', { text: 'hi' }), client.trigger('work', [1]), chat.leave()];
  client.connect();
  await Promise.all(asked);
  const session = await server.session();
  assert.deepEqual(session.requests, [
    ['subscribe', { channel: 'chat' }],
    ['broadcast', { channel: 'chat', event: 'hello', data: { text: 'hi' } }],
    ['trigger', { event: 'work', data: [1] }],
    ['unsubscribe', { channel: 'chat' }],
  ]);
  assert.deepEqual(session.refs, [1, 2, 3, 4]);
});

test('requests settle with their own answer, whatever its order', async (t) => {
  const server = await startServer(t, { trigger: silence });
  const [client, session] = await server.connect();
  const ended = [];
  const [first, second] = ['one', 'two'].map((event) => client.trigger(event).then(() => ended.push(event)));
  await session.hear();
  await session.hear();
  session.tell({ ':ok': { code: 205, status: 'Triggered', ref: session.refs[1] } });
  await second;
  session.tell({ ':ok': { code: 205, status: 'Triggered', ref: session.refs[0] } });
  await first;
  assert.deepEqual(ended, ['two', 'one']);
});

test('a refusal rejects with code, status and reason', async (t) => {
  const server = await startServer(t, { openChannel: refuse(403, 'Forbidden', 'channel limit reached'), trigger: refuse(503, 'Service unavailable') });
  const [client] = await server.connect();
  const error = await rejected(client.openChannel('news'), 403);
  assert.ok(error instanceof Error);
  assert.equal(error.name, 'WebRocketError');
  assert.equal(error.status, 'Forbidden');
  assert.equal(error.reason, 'channel limit reached');
  assert.equal(error.message, 'openChannel news: 403 Forbidden (channel limit reached)');
  const other = await rejected(client.trigger('work'), 503);
  assert.equal(other.reason, undefined);
  assert.equal(other.message, 'trigger work: 503 Service unavailable');
});

test('opening and closing channels', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  assert.equal(await client.openChannel('news'), undefined);
  assert.equal(await client.closeChannel('news'), undefined);
  assert.deepEqual(session.requests, [['openChannel', { channel: 'news' }], ['closeChannel', { channel: 'news' }]]);
});

test('data is taken as it is when it is given', async (t) => {
  const server = await startServer(t);
  const client = server.client({ autoConnect: false });
  const data = { number: 1 };
  const asked = client.trigger('x', data);
  data.number = 2;
  client.connect();
  await asked;
  assert.deepEqual((await server.session()).requests, [['trigger', { event: 'x', data: { number: 1 } }]]);
});

test('wrong arguments reject or throw, and nothing is sent', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const cycle = {};
  cycle.cycle = cycle;
  for (const data of [cycle, 1n]) await assert.rejects(client.trigger('x', data), TypeError);
  await assert.rejects(client.join(''), TypeError);
  await assert.rejects(client.authenticate(), TypeError);
  await assert.rejects(client.authenticate({ secret: 'x' }), TypeError);
  for (const data of ['bye', null, [1]]) await assert.rejects(client.close(data), TypeError);
  assert.throws(() => client.channel(), TypeError);
  assert.throws(() => client.channel('x').event(''), TypeError);
  assert.throws(() => client.on('subscribed', () => {}), TypeError);
  await client.trigger('last');
  assert.deepEqual(session.requests.map(([name]) => name), ['trigger']);
  assert.equal(client.state, 'connected');
});

test('too many waiting requests are refused', async (t) => {
  const server = await startServer(t);
  const client = server.client({ autoConnect: false, queueMax: 2 });
  const held = [client.join('a'), client.authenticate('t')];
  for (const ask of [() => client.trigger('x'), () => client.join('b'), () => client.authenticate('u')]) {
    const error = await rejected(ask(), 'queue-full');
    assert.match(error.message, /2 requests/);
  }
  assert.equal(client.channel('b').state, 'left');
  client.connect();
  await Promise.all(held);
  await client.trigger('x');
});

test('with no queue at all, requests pass while connected', async (t) => {
  const server = await startServer(t);
  const client = server.client({ queueMax: 0 });
  await rejected(client.trigger('early'), 'queue-full');
  await heard(client, 'connected');
  await client.trigger('x');
});

test('no more than 256 requests are on their way at once', async (t) => {
  const server = await startServer(t, { trigger: silence });
  const [client, session] = await server.connect();
  const asked = Array.from({ length: 300 }, (_, number) => client.trigger(`${number}`));
  for (let count = 0; count < 256; count += 1) await session.hear();
  await settled(client, session);
  assert.equal(session.requests.length, 256);
  for (let answered = 0; answered < 300; answered += 1) {
    if (answered >= 256) await session.hear();
    session.tell({ ':ok': { code: 205, status: 'Triggered', ref: session.refs[answered] } });
    if (answered < 44) await within(asked[answered], 'an answer');
  }
  await Promise.all(asked);
  assert.deepEqual(session.requests.map(([, { event }]) => Number(event)), Array.from(asked.keys()));
});

test('refused and unanswered requests make room for those that wait', async (t) => {
  const server = await startServer(t, { trigger: refuse(503, 'Service unavailable') });
  const expire = stopTime(t);
  const [client] = await server.connect({ timeout: 150 });
  const ask = (code) => Promise.all(Array.from({ length: 300 }, () => rejected(client.trigger('work'), code)));
  await ask(503);
  server.answers.trigger = silence;
  const asked = ask('timeout');
  for (let count = 0; count < 300; count += 1) await expire(150);
  await asked;
});

test('a second greeting changes nothing', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  let connected = 0;
  client.on('connected', () => (connected += 1));
  session.tell({ ':connected': { sid: 'another' } });
  await settled(client, session);
  assert.equal(client.sid, session.sid);
  assert.equal(connected, 0);
});

test('a request without an answer is given up; a late answer finds nobody', async (t) => {
  const server = await startServer(t, { trigger: silence });
  const expire = stopTime(t);
  const [client, session] = await server.connect({ timeout: 150 });
  const asked = rejected(client.trigger('work'), 'timeout');
  await session.hear();
  await expire(150);
  const error = await asked;
  assert.equal(error.message, 'trigger work: no answer within 150 ms');
  session.tell({ ':ok': { code: 205, status: 'Triggered', ref: session.refs[0] } });
  await settled(client, session);
  assert.equal(client.state, 'connected');
});

test('a direct message', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const message = heard(client, 'message');
  session.tell({ hint: { text: 'psst' } });
  assert.deepEqual(await message, ['hint', { text: 'psst' }]);
});

test('what the server has to complain of, or says wrongly, is an error event', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  session.tell({ ':error': { code: 400, status: 'Bad request' } });
  const error = await heard(client, 'error');
  assert.equal(error.code, 400);
  assert.equal(error.message, 'the server says: 400 Bad request');
  for (const nonsense of ['{', '7', 'null', '{}', '[]', '{"x":7}', '{"x":null}']) {
    session.tell(nonsense);
    assert.equal((await heard(client, 'error')).code, 'bad-message', nonsense);
  }
  session.socket.send(Buffer.from('{"x":{}}'), { binary: true });
  assert.equal((await heard(client, 'error')).code, 'bad-message');
  session.tell({ ':news': { of: 'a later version' } });
  session.tell({ ':ok': { code: 204, status: 'Broadcasted', ref: 'unknown' } });
  session.tell({ ':memberJoined': { uid: 'eve', channel: 'never named' } });
  await settled(client, session);
  assert.equal(client.state, 'connected');
});

test('an error that nobody listens to is told all the same', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const log = t.mock.method(console, 'error', () => {});
  session.tell('nonsense');
  await settled(client, session);
  assert.equal(log.mock.calls[0].arguments[0].code, 'bad-message');
});

test('authenticating with each kind of credentials', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const told = heard(client, 'authenticated');
  assert.equal(await client.authenticate('t0k3n'), undefined);
  await told;
  await client.authenticate(async () => 'fetched');
  await client.authenticate({ user: 'joe', secret: '53cr37' });
  await client.authenticate({ user: 'guest' });
  assert.deepEqual(session.requests, [
    ['auth', { token: 't0k3n' }], ['auth', { token: 'fetched' }],
    ['auth', { user: 'joe', secret: '53cr37' }], ['auth', { user: 'guest' }],
  ]);
});

test('the token option authenticates before anything else', async (t) => {
  const server = await startServer(t);
  const client = server.client({ token: 'first', autoConnect: false });
  const events = [];
  for (const name of ['authenticated', 'connected']) client.on(name, () => events.push(name));
  const asked = [client.join('news'), client.authenticate('second'), client.trigger('x')];
  client.connect();
  await Promise.all(asked);
  const session = await server.session();
  assert.deepEqual(session.requests, [
    ['auth', { token: 'first' }], ['subscribe', { channel: 'news' }],
    ['auth', { token: 'second' }], ['subscribe', { channel: 'news' }], ['trigger', { event: 'x' }],
  ]);
  assert.deepEqual(events, ['authenticated', 'connected', 'authenticated']);
});

test('a refused token option is an error event, and the session goes on without', async (t) => {
  const server = await startServer(t, { auth: refuse(402, 'Unauthorized') });
  const client = server.client({ token: 's3cr3t' });
  const error = await heard(client, 'error');
  assert.equal(error.message, 'auth: 402 Unauthorized');
  await client.join('news');
  server.sessions[0].socket.terminate();
  await heard(client, 'connected');
  await client.trigger('x');
  assert.deepEqual(server.sessions[1].requests.map(([name]) => name), ['subscribe', 'trigger'], 'it is not tried twice');
});

test('what comes after an authenticate waits for its end, even for a slow token', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  let give;
  const asked = [client.authenticate(() => new Promise((resolve) => (give = resolve))), client.trigger('after')];
  await settled(client, session);
  assert.deepEqual(session.requests, []);
  give('t');
  await Promise.all(asked);
  assert.deepEqual(session.requests.map(([name]) => name), ['auth', 'trigger']);
});

test('a failed authenticate changes nothing', async (t) => {
  const server = await startServer(t, { auth: refuse(402, 'Unauthorized') });
  const [client, session] = await server.connect();
  await client.join('news');
  const error = await rejected(client.authenticate('s3cr3t'), 402);
  assert.ok(!`${error.stack}`.includes('s3cr3t'));
  await rejected(client.authenticate(() => Promise.reject(new Error('offline'))), 'token-failed');
  assert.equal(client.channel('news').state, 'joined');
  await client.trigger('x');
  assert.deepEqual(session.requests.map(([name]) => name), ['subscribe', 'auth', 'trigger']);
});

test('an authenticate without an answer ends the connection: nobody knows what the session is', async (t) => {
  const server = await startServer(t, { auth: silence });
  const expire = stopTime(t);
  const [client, session] = await server.connect({ timeout: 150 });
  const back = heard(client, 'reconnecting');
  const asked = rejected(client.authenticate('t'), 'timeout');
  await session.hear();
  await expire(150);
  await asked;
  assert.equal((await back).reason, 'auth: no answer within 150 ms');
  await client.trigger('x');
  assert.deepEqual(server.sessions[1].requests.map(([name]) => name), ['trigger']);
});

test('close asks the server, with the data, after what was asked before', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const left = heard(client.channel('news'), 'unsubscribed');
  await client.join('news');
  const over = heard(client, 'disconnected');
  const asked = client.trigger('last');
  const [first, second] = [client.close({ mood: 'fine' }), client.close()];
  assert.equal(client.state, 'closing');
  await rejected(client.trigger('too late'), 'closed');
  await rejected(client.join('other'), 'closed');
  await Promise.all([asked, first, second]);
  assert.equal(client.state, 'closed');
  assert.equal(client.sid, null);
  assert.deepEqual(await over, { code: 1000, reason: '', final: true });
  assert.deepEqual(await left, { reason: 'disconnected', error: undefined });
  assert.equal(await session.ended, 1000);
  assert.deepEqual(session.requests.slice(1), [['trigger', { event: 'last' }], ['close', { mood: 'fine' }]]);
  await client.close();
  await rejected(client.trigger('too late'), 'closed');
  assert.equal(server.sessions.length, 1);
});

test('a close whose data is refused closes all the same, and says so', async (t) => {
  const server = await startServer(t, { close: refuse(400, 'Bad request', 'data too long') });
  const [client, session] = await server.connect();
  await rejected(client.close({ long: 'x' }), 400);
  assert.equal(client.state, 'closed');
  await session.ended;
});

test('a close that the server does not answer, or cuts short, ends well', async (t) => {
  const server = await startServer(t, { close: silence });
  const expire = stopTime(t);
  const [slow, silent] = await server.connect({ timeout: 150 });
  const ending = slow.close();
  await silent.hear();
  await expire(150);
  await ending;
  const [cut, session] = await server.connect();
  const closing = cut.close();
  await session.hear();
  session.socket.terminate();
  await closing;
  assert.equal(cut.state, 'closed');
});

test('close while connecting drops what waits', async (t) => {
  const server = await startServer(t);
  const client = server.client();
  const [asked, joining] = [client.trigger('x'), client.join('news')];
  const closing = client.close();
  assert.equal(client.state, 'closed');
  await closing;
  await rejected(asked, 'closed');
  await rejected(joining, 'closed');
});

test('after close, connect begins anew: with the credentials, without the channels', async (t) => {
  const server = await startServer(t);
  const [client] = await server.connect({ token: () => 'fresh' });
  await client.join('news');
  await client.close();
  client.connect();
  assert.deepEqual(await heard(client, 'connected'), { sid: client.sid, reconnected: true });
  await client.trigger('x');
  assert.deepEqual(server.sessions[1].requests.map(([name]) => name), ['auth', 'trigger']);
  assert.equal(client.channel('news').state, 'left');
});

test('handlers may close and connect', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  let reconnecting = 0;
  client.on('reconnecting', () => (reconnecting += 1));
  client.once('disconnected', () => client.close());
  const over = heard(client, 'disconnected');
  session.socket.terminate();
  await over;
  assert.equal(client.state, 'closed');
  client.once('disconnected', () => client.connect());
  client.connect();
  const second = await server.session();
  await heard(client, 'connected');
  second.socket.terminate();
  await heard(client, 'connected');
  assert.equal(reconnecting, 0);
});

test('an address that no WebSocket takes throws at once', () => {
  class Refusing {
    constructor() {
      throw new SyntaxError('no');
    }
  }
  assert.throws(() => new WebRocket('ws://h/x', { WebSocket: Refusing }), SyntaxError);
});

test('two clients do not share anything', async (t) => {
  const server = await startServer(t);
  const [[one], [two]] = [await server.connect(), await server.connect({ reconnect: { ...EAGER }, WebSocket })];
  assert.notEqual(one.channel('x'), two.channel('x'));
  await one.join('x');
  assert.equal(two.channel('x').state, 'left');
});
