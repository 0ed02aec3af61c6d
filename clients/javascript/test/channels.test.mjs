// Joining, leaving, what comes in, who is there.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { heard, members, rejected } from '../../../tests/node/awaiting.mjs';
import { refuse, settled, silence, startServer } from './fake.mjs';

test('a channel is one object, joined or not', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = client.channel('chat');
  assert.equal(chat.name, 'chat');
  assert.equal(chat.state, 'left');
  assert.equal(chat.then, undefined);
  const told = heard(chat, 'subscribed');
  const joining = client.join('chat');
  assert.equal(chat.state, 'joining');
  assert.equal(await joining, chat);
  assert.deepEqual(await told, { rejoined: false });
  assert.equal(chat.state, 'joined');
  assert.equal(chat.uid, null);
  assert.equal(chat.subscribers.size, 0);
  assert.equal(chat.subscriberCount, 0);
  assert.equal(await chat.join(), chat, 'joining again asks nobody');
  assert.deepEqual(session.requests, [['subscribe', { channel: 'chat' }]]);
});

test('joins while joining share one request', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const joined = await Promise.all([client.join('chat'), client.join('chat'), client.channel('chat').join()]);
  assert.deepEqual(new Set(joined), new Set([client.channel('chat')]));
  assert.equal(session.requests.length, 1);
});

test('a refused join rejects all who wait for it, and is forgotten', async (t) => {
  const server = await startServer(t, { subscribe: refuse(403, 'Forbidden') });
  const [client, session] = await server.connect();
  const asked = [client.join('private-x'), client.join('private-x')];
  for (const promise of asked) {
    const error = await rejected(promise, 403);
    assert.equal(error.message, 'subscribe private-x: 403 Forbidden');
  }
  assert.equal(client.channel('private-x').state, 'left');
  session.socket.terminate();
  await heard(client, 'connected');
  await client.trigger('x');
  assert.deepEqual(server.sessions[1].requests.map(([name]) => name), ['trigger']);
});

test('data and hidden go along', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  await client.join('presence-hall', { data: { name: 'Ann' }, hidden: true });
  assert.deepEqual(session.requests, [['subscribe', { channel: 'presence-hall', data: { name: 'Ann' }, hidden: true }]]);
});

test('a broadcast reaches the handlers of its event, and those of all', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = await client.join('chat');
  const calls = [];
  chat.event('say').on((data, { event, channel, sid }) => calls.push([data, event, channel === chat, sid]));
  chat.event('shout').on(() => calls.push('wrong'));
  chat.on('received', (event, data, context) => calls.push([event, data, context.sid]));
  session.tell({ say: { text: 'hi', n: [1], channel: 'chat', sid: 'abc' } });
  session.tell({ say: { data: 'bare', channel: 'chat' } });
  session.tell({ say: { channel: 'chat', sid: 'abc' } });
  await settled(client, session);
  assert.deepEqual(calls, [
    [{ text: 'hi', n: [1] }, 'say', true, 'abc'], ['say', { text: 'hi', n: [1] }, 'abc'],
    [{ data: 'bare' }, 'say', true, undefined], ['say', { data: 'bare' }, undefined],
    [{}, 'say', true, 'abc'], ['say', {}, 'abc'],
  ]);
});

test('events may have any name', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = await client.join('chat');
  for (const name of ['constructor', 'toString', 'subscribed', '7', 'ä 🚀']) {
    const event = heard(chat.event(name));
    session.tell(`{${JSON.stringify(name)}:{"__proto__":{"x":1},"channel":"chat","sid":"abc"}}`);
    const [data] = await event;
    assert.deepEqual(Object.keys(data), ['__proto__']);
    assert.equal(data.x, undefined);
  }
});

test('handlers are taken off with what on returned, or with off', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = await client.join('chat');
  const calls = [];
  const [one, two, three] = [1, 2, 3].map((number) => () => calls.push(number));
  const takeOff = chat.event('say').on(one);
  chat.event('say').on(two);
  chat.event('say').once(three);
  const say = async () => {
    session.tell({ say: { channel: 'chat', sid: 'abc' } });
    await settled(client, session);
  };
  await say();
  takeOff();
  await say();
  chat.event('say').off(two);
  await say();
  assert.deepEqual(calls, [1, 2, 3, 2]);
});

test('a handler that throws stops nothing', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = await client.join('chat');
  const log = t.mock.method(console, 'error', () => {});
  chat.event('say').on(() => {
    throw new Error('clumsy');
  });
  const next = heard(chat.event('say'));
  session.tell({ say: { text: 'hi', channel: 'chat', sid: 'abc' } });
  assert.deepEqual((await next)[0], { text: 'hi' });
  assert.match(`${log.mock.calls[0].arguments[0]}`, /clumsy/);
  await chat.broadcast('say');
});

test('broadcasting, in both spellings', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = await client.join('chat');
  assert.equal(await chat.broadcast('say', { text: 'hi' }), undefined);
  await chat.event('say').fire('bare', { trigger: 'store' });
  await chat.event('wave').fire();
  await chat.event('nothing').fire(null);
  assert.deepEqual(session.requests.slice(1), [
    ['broadcast', { channel: 'chat', event: 'say', data: { text: 'hi' } }],
    ['broadcast', { channel: 'chat', event: 'say', data: 'bare', trigger: 'store' }],
    ['broadcast', { channel: 'chat', event: 'wave' }],
    ['broadcast', { channel: 'chat', event: 'nothing', data: null }],
  ]);
});

test('a broadcast where one is not subscribed is for the server to refuse', async (t) => {
  const server = await startServer(t, { broadcast: refuse(453, 'Not subscribed') });
  const [client] = await server.connect();
  const error = await rejected(client.channel('chat').broadcast('say'), 453);
  assert.equal(error.message, 'broadcast chat: 453 Not subscribed');
});

test('who is present, from the list and from those who come and go', async (t) => {
  const list = [{ uid: 'ben', name: 'Ben' }, { uid: 'cy' }];
  const server = await startServer(t, {
    subscribe: ({ channel }) => ({ ':subscribed': { channel, uid: 'ann', subscribers: list } }),
  });
  const [client, session] = await server.connect();
  const hall = client.channel('presence-hall');
  const calls = [];
  hall.on('subscribed', () => calls.push(['subscribed', members(hall)]));
  hall.on('online', (uid, data) => calls.push(['online', uid, data, hall.subscribers.has(uid)]));
  hall.on('offline', (uid, data) => calls.push(['offline', uid, data, hall.subscribers.has(uid)]));
  hall.on('received', (event) => calls.push(event));
  await hall.join();
  assert.equal(hall.uid, 'ann');
  const { subscribers } = hall;
  session.tell({ ':memberJoined': { uid: 'ann', channel: 'presence-hall' } });
  session.tell({ ':memberLeft': { uid: 'ben', channel: 'presence-hall', name: 'Ben', why: 'tired' } });
  session.tell({ ':memberJoined': { uid: 'dee', channel: 'presence-hall', name: 'Dee' } });
  await settled(client, session);
  assert.deepEqual(calls, [
    ['subscribed', { ben: { name: 'Ben' }, cy: {} }],
    ['online', 'ann', {}, true],
    ['offline', 'ben', { name: 'Ben', why: 'tired' }, false],
    ['online', 'dee', { name: 'Dee' }, true],
  ]);
  assert.deepEqual(members(hall), { cy: {}, ann: {}, dee: { name: 'Dee' } });
  assert.equal(hall.subscribers, subscribers, 'it is one Map for good');
  assert.equal(hall.subscriberCount, 3);
  await hall.leave();
  assert.equal(hall.subscribers.size, 0);
  assert.equal(hall.uid, null);
});

test('a list that was cut still gives the right count', async (t) => {
  const server = await startServer(t, {
    subscribe: ({ channel }) => ({ ':subscribed': { channel, uid: 'ann', subscribers: [{ uid: 'ben' }], total: 3 } }),
  });
  const [client, session] = await server.connect();
  const hall = await client.join('presence-hall');
  const say = async (name, uid) => {
    session.tell({ [name]: { uid, channel: 'presence-hall' } });
    await settled(client, session);
    return [hall.subscribers.size, hall.subscriberCount];
  };
  assert.equal(hall.subscriberCount, 3);
  assert.deepEqual(await say(':memberJoined', 'ann'), [2, 4]);
  assert.deepEqual(await say(':memberLeft', 'unlisted'), [2, 3]);
  assert.deepEqual(await say(':memberLeft', 'ben'), [1, 2]);
  assert.deepEqual(await say(':memberLeft', 'the other'), [1, 1]);
});

test('leaving, with data', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const hall = await client.join('presence-hall');
  const told = heard(hall, 'unsubscribed');
  const leaving = Promise.all([hall.leave({ data: { why: 'tired' } }), hall.leave()]);
  assert.equal(hall.state, 'leaving');
  await leaving;
  assert.equal(hall.state, 'left');
  assert.deepEqual(await told, { reason: 'left', error: undefined });
  await hall.leave();
  assert.deepEqual(session.requests.slice(1), [['unsubscribe', { channel: 'presence-hall', data: { why: 'tired' } }]]);
});

test('a leave that is refused leaves one there; one who is not there has left', async (t) => {
  const server = await startServer(t, { unsubscribe: refuse(400, 'Bad request', 'data too long') });
  const [client] = await server.connect();
  const chat = await client.join('chat');
  await rejected(chat.leave({ data: { long: 'x' } }), 400);
  assert.equal(chat.state, 'joined');
  server.answers.unsubscribe = refuse(453, 'Not subscribed');
  await chat.leave();
  assert.equal(chat.state, 'left');
});

test('the last word counts when joining and leaving overlap', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = client.channel('chat');
  const told = [];
  for (const name of ['subscribed', 'unsubscribed']) chat.on(name, () => told.push(name));
  const asked = [chat.join(), chat.leave(), chat.join({ data: { again: true } })];
  assert.equal(chat.state, 'joining');
  await Promise.all(asked);
  assert.equal(chat.state, 'joined');
  const more = [chat.leave(), chat.join(), chat.leave()];
  assert.equal(chat.state, 'leaving');
  await Promise.all(more);
  assert.equal(chat.state, 'left');
  assert.deepEqual(session.requests.map(([name, { data }]) => (data ? [name, data] : name)), [
    'subscribe', 'unsubscribe', ['subscribe', { again: true }], 'unsubscribe', 'subscribe', 'unsubscribe',
  ]);
  assert.deepEqual(told, Array(3).fill(['subscribed', 'unsubscribed']).flat());
});

test('a channel closed by the server is left, and not joined again', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = await client.join('chat');
  const told = heard(chat, 'unsubscribed');
  session.tell({ ':unsubscribed': { channel: 'chat' } });
  assert.deepEqual(await told, { reason: 'closed', error: undefined });
  assert.equal(chat.state, 'left');
  session.tell({ ':unsubscribed': { channel: 'chat' } });
  session.tell({ ':unsubscribed': { channel: 'never named' } });
  await settled(client, session);
  session.socket.terminate();
  await heard(client, 'connected');
  await client.trigger('x');
  assert.deepEqual(server.sessions[1].requests.map(([name]) => name), ['trigger']);
});

test('a channel closed while one leaves it is told once', async (t) => {
  const server = await startServer(t, { unsubscribe: silence });
  const [client, session] = await server.connect();
  const chat = await client.join('chat');
  let told = 0;
  chat.on('unsubscribed', () => (told += 1));
  const leaving = chat.leave();
  await session.hear();
  await session.hear();
  session.tell({ ':unsubscribed': { channel: 'chat' } });
  session.tell({ ':error': { code: 453, status: 'Not subscribed', ref: session.refs[1] } });
  await leaving;
  assert.equal(told, 1);
});

test('authenticating in the middle joins all channels again, before what comes after', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const chat = await client.join('chat', { data: { a: 1 } });
  await client.join('gone');
  await client.channel('gone').leave();
  const told = heard(chat, 'subscribed');
  const asked = [client.authenticate('t'), chat.broadcast('say')];
  await Promise.all(asked);
  assert.deepEqual(await told, { rejoined: true });
  assert.deepEqual(session.requests.slice(3), [
    ['auth', { token: 't' }],
    ['subscribe', { channel: 'chat', data: { a: 1 } }],
    ['broadcast', { channel: 'chat', event: 'say' }],
  ]);
  assert.equal(client.state, 'connected');
});

test('a message for a channel that was left is nobody\'s; one with a channel of its own is direct', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const message = heard(client, 'message');
  session.tell({ note: { channel: 'unknown', text: 'hi' } });
  assert.deepEqual(await message, ['note', { channel: 'unknown', text: 'hi' }]);
});
