// Lost connections: what is done again, what fails, when it is over.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspect } from 'node:util';

import { heard, rejected } from '../../../tests/node/awaiting.mjs';
import { EAGER, refuse, settled, silence, startServer, stopTime } from './fake.mjs';

const names = (session) => session.requests.map(([name]) => name);

test('it comes back: authenticates with a fresh token, joins again, then sends what waited', async (t) => {
  const server = await startServer(t);
  let tokens = 0;
  const [client, first] = await server.connect({ token: async () => `token ${(tokens += 1)}` });
  const hall = await client.join('presence-hall', { data: { name: 'Ann' }, hidden: true });
  await client.join('chat');
  await client.join('gone');
  await client.channel('gone').leave();
  const events = [];
  client.on('disconnected', (detail) => events.push(['disconnected', detail, client.state, client.sid, hall.state]));
  client.on('reconnecting', ({ attempt, code, reason }) => events.push(['reconnecting', attempt, code, reason]));
  client.on('authenticated', () => events.push('authenticated'));
  client.on('connected', ({ sid, reconnected }) => events.push(['connected', sid === client.sid, reconnected]));

  const lost = heard(client, 'disconnected');
  first.socket.close(1012, 'restart');
  await lost;
  const held = [hall.broadcast('one'), client.join('new'), client.trigger('two'), client.channel('chat').leave()];
  const rejoined = heard(hall, 'subscribed');
  await Promise.all(held);
  const second = await server.session();
  assert.deepEqual(await rejoined, { rejoined: true });
  assert.equal(hall.state, 'joined');
  assert.deepEqual(first.requests[0], ['auth', { token: 'token 1' }]);
  assert.deepEqual(second.requests, [
    ['auth', { token: 'token 2' }],
    ['subscribe', { channel: 'presence-hall', data: { name: 'Ann' }, hidden: true }],
    ['subscribe', { channel: 'chat' }],
    ['broadcast', { channel: 'presence-hall', event: 'one' }],
    ['subscribe', { channel: 'new' }],
    ['trigger', { event: 'two' }],
    ['unsubscribe', { channel: 'chat' }],
  ]);
  assert.deepEqual(events, [
    ['disconnected', { code: 1012, reason: 'restart', final: false }, 'waiting', null, 'joining'],
    ['reconnecting', 1, 1012, 'restart'],
    'authenticated',
    ['connected', true, true],
  ]);
});

test('what was on its way fails and is never sent twice', async (t) => {
  const server = await startServer(t, { broadcast: silence, trigger: silence });
  const [client, session] = await server.connect();
  const chat = await client.join('chat');
  const asked = [chat.broadcast('say'), client.trigger('work')];
  const ends = asked.map((promise) => rejected(promise, 'connection-lost'));
  await Promise.all([session.hear(), session.hear(), session.hear()]);
  session.socket.terminate();
  const [error] = await Promise.all(ends);
  assert.equal(error.message, 'broadcast chat: the connection was lost before an answer came');
  await client.openChannel('after');
  assert.deepEqual(names(server.sessions[1]), ['subscribe', 'openChannel']);
});

test('joins and leaves that were on their way are done again, in their order', async (t) => {
  const server = await startServer(t, { subscribe: silence, unsubscribe: silence });
  const [client, session] = await server.connect();
  const asked = [client.join('a'), client.channel('a').leave(), client.join('b', { data: { x: 1 } }), client.trigger('x')];
  for (const _ of asked) await session.hear();
  await asked[3];
  server.answers.subscribe = ({ channel }) => ({ ':subscribed': { channel } });
  server.answers.unsubscribe = ({ channel }) => ({ ':unsubscribed': { channel } });
  const told = heard(client.channel('b'), 'subscribed');
  session.socket.terminate();
  await Promise.all(asked);
  assert.deepEqual(await told, { rejoined: false });
  assert.deepEqual(server.sessions[1].requests, [
    ['subscribe', { channel: 'a' }], ['unsubscribe', { channel: 'a' }], ['subscribe', { channel: 'b', data: { x: 1 } }],
  ]);
  assert.equal(client.channel('a').state, 'left');
  assert.equal(client.channel('b').state, 'joined');
});

test('an authenticate that was on its way is done again', async (t) => {
  const server = await startServer(t, { auth: silence });
  const [client, session] = await server.connect();
  let asked = 0;
  const authenticating = client.authenticate(() => `token ${(asked += 1)}`);
  await session.hear();
  server.answers.auth = () => ({ ':authenticated': {} });
  session.socket.terminate();
  await authenticating;
  assert.deepEqual(server.sessions[1].requests, [['auth', { token: 'token 2' }]]);
});

for (const late of ['resolve', 'reject']) {
  test(`an authenticate waits through a loss while its token is fetched; a late ${late} of the first counts for nothing`, async (t) => {
    const server = await startServer(t);
    const [client, session] = await server.connect();
    const fetches = [];
    const authenticating = client.authenticate(() => new Promise((resolve, reject) => fetches.push({ resolve, reject })));
    await settled(client, session);
    session.socket.terminate();
    await heard(client, 'connected');
    const second = await server.session();
    await settled(client, second);
    fetches[0][late](late === 'resolve' ? 'stale' : new Error('too late'));
    await settled(client, second);
    fetches[1].resolve('good');
    await authenticating;
    assert.deepEqual(second.requests, [['auth', { token: 'good' }]]);
  });
}

test('a user with a secret is authenticated again', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect({ token: { user: 'joe', secret: 's' } });
  session.socket.terminate();
  await heard(client, 'connected');
  assert.deepEqual(server.sessions[1].requests, [['auth', { user: 'joe', secret: 's' }]]);
});

test('the credentials of the last successful authenticate are those that are used again', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect({ token: { user: 'old' } });
  await client.authenticate({ user: 'new' });
  server.answers.auth = refuse(402, 'Unauthorized');
  await rejected(client.authenticate({ user: 'wrong' }), 402);
  server.answers.auth = () => ({ ':authenticated': {} });
  session.socket.terminate();
  await heard(client, 'connected');
  assert.deepEqual(server.sessions[1].requests, [['auth', { user: 'new' }]]);
});

test('a fixed token is not used twice: one error, and the session stays anonymous', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect({ token: 's3cr3t' });
  await client.join('news');
  const errors = [];
  client.on('error', (error) => errors.push(error));
  session.socket.terminate();
  await heard(client, 'connected');
  await client.trigger('second');
  server.sessions[1].socket.terminate();
  await heard(client, 'connected');
  await client.trigger('third');
  assert.deepEqual(server.sessions.slice(1).map(names), Array(2).fill(['subscribe', 'trigger']));
  assert.deepEqual(errors.map(({ code }) => code), ['token-spent']);
  assert.match(errors[0].message, /only once/);
  assert.ok(!inspect(errors[0]).includes('s3cr3t'));
});

test('a token function that fails is asked again with the next connection', async (t) => {
  const server = await startServer(t);
  let asked = 0;
  const client = server.client({
    token: () => {
      asked += 1;
      if (asked < 3) throw new Error('the backend is down');
      return 'good';
    },
  });
  const errors = [];
  client.on('error', ({ code, cause }) => errors.push([code, cause.message]));
  const told = heard(client, 'reconnecting');
  await client.join('news');
  assert.equal((await told).reason, 'the token function failed');
  assert.deepEqual(errors, Array(2).fill(['token-failed', 'the backend is down']));
  assert.deepEqual(server.sessions.map(names), [[], [], ['auth', 'subscribe']]);
});

test('a token function that never ends is given up', async (t) => {
  const server = await startServer(t);
  const expire = stopTime(t);
  const tokens = [new Promise(() => {}), 'good'];
  let begin;
  const begun = new Promise((resolve) => (begin = resolve));
  const client = server.client({ timeout: 150, token: () => (begin(), tokens.shift()) });
  const told = heard(client, 'error');
  await begun;
  await expire(150);
  const error = await told;
  assert.equal(error.cause.message, 'no token within 150 ms');
  await client.join('news');
});

test('a server that cannot authenticate just now is asked again; one that will not is believed', async (t) => {
  const server = await startServer(t, { auth: refuse(597, 'Internal error') });
  const client = server.client({ token: { user: 'joe' } });
  assert.equal((await heard(client, 'error')).code, 597);
  server.answers.auth = refuse(402, 'Unauthorized');
  client.on('error', () => {});
  await heard(client, 'connected');
  assert.equal(client.state, 'connected');
});

test('a channel that is not to be had again is told as lost', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const room = await client.join('private-room');
  await client.join('news');
  server.answers.subscribe = ({ channel }) =>
    (channel === 'news' ? { ':subscribed': { channel } } : { ':error': { code: 403, status: 'Forbidden' } });
  const [told, complaint] = [heard(room, 'unsubscribed'), heard(client, 'error')];
  session.socket.terminate();
  const { reason, error } = await told;
  assert.equal(reason, 'refused');
  assert.equal(error.code, 403);
  assert.equal(await complaint, error);
  assert.equal(room.state, 'left');
  await client.join('news');
  server.sessions[1].socket.terminate();
  await heard(client, 'connected');
  await client.trigger('x');
  assert.deepEqual(server.sessions[2].requests.map(([, { channel }]) => channel), ['news', undefined]);
});

test('join and leave while a subscription is being restored', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const [stays, goes] = await Promise.all([client.join('stays'), client.join('goes')]);
  const lost = heard(client, 'disconnected');
  session.socket.terminate();
  await lost;
  assert.equal(stays.state, 'joining');
  const asked = [stays.join(), goes.leave()];
  assert.equal(goes.state, 'leaving');
  await Promise.all(asked);
  assert.deepEqual([stays.state, goes.state], ['joined', 'left']);
  assert.deepEqual(server.sessions[1].requests.map(([name, { channel }]) => `${name} ${channel}`), [
    'subscribe stays', 'subscribe goes', 'unsubscribe goes',
  ]);
});

test('a connection lost while channels are being restored loses none', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect();
  const channels = await Promise.all(['a', 'b', 'c'].map((name) => client.join(name)));
  let answered = 0;
  server.answers.subscribe = ({ channel }) => ((answered += 1) === 1 ? { ':subscribed': { channel } } : null);
  session.socket.terminate();
  await heard(channels[0], 'subscribed');
  const held = client.trigger('after');
  server.answers.subscribe = ({ channel }) => ({ ':subscribed': { channel } });
  server.sessions[1].socket.terminate();
  await rejected(held, 'connection-lost');
  await client.trigger('after');
  assert.deepEqual(channels.map(({ state }) => state), ['joined', 'joined', 'joined']);
  assert.deepEqual(server.sessions[2].requests.map(([, { channel }]) => channel), ['a', 'b', 'c', undefined]);
});

test('a restored channel without an answer is asked for again on a new connection', async (t) => {
  const server = await startServer(t);
  const expire = stopTime(t);
  const [client, session] = await server.connect({ timeout: 150 });
  const news = await client.join('news');
  server.answers.subscribe = silence;
  session.socket.terminate();
  await (await server.session()).hear();
  const again = heard(client, 'reconnecting');
  await expire(150);
  assert.equal((await again).reason, 'subscribe news: no answer within 150 ms');
  server.answers.subscribe = ({ channel }) => ({ ':subscribed': { channel } });
  await news.join();
  assert.equal(news.state, 'joined');
});

test('a first join without an answer rejects, and the connection is made anew', async (t) => {
  const server = await startServer(t, { subscribe: silence });
  const expire = stopTime(t);
  const [client, session] = await server.connect({ timeout: 150 });
  const joining = rejected(client.join('news'), 'timeout');
  await session.hear();
  await expire(150);
  await joining;
  assert.equal(client.channel('news').state, 'left');
  await client.trigger('x');
  assert.deepEqual(server.sessions.map(names), [['subscribe'], ['trigger']]);
});

test('a server that never greets is left', async (t) => {
  const server = await startServer(t);
  const expire = stopTime(t);
  server.greets = false;
  const client = server.client({ timeout: 150 });
  await server.session();
  server.greets = true;
  const [told, connected] = [heard(client, 'reconnecting'), heard(client, 'connected')];
  await expire(150);
  const { code, reason } = await told;
  assert.deepEqual([code, reason], [1006, 'no greeting within 150 ms']);
  await connected;
});

test('a message that was too big is not sent again, not even a join', async (t) => {
  const server = await startServer(t, { subscribe: silence });
  const [client, session] = await server.connect();
  const joining = rejected(client.join('presence-hall', { data: { long: 'x' } }), 'connection-lost');
  await session.hear();
  session.socket.close(1009);
  await joining;
  await client.trigger('x');
  assert.deepEqual(names(server.sessions[1]), ['trigger']);
});

test('close codes after which it does not come back', async (t) => {
  const server = await startServer(t, { trigger: silence });
  for (const code of [4004, 1002]) {
    const [client, session] = await server.connect();
    const chat = await client.join('chat');
    const [over, left] = [heard(client, 'disconnected'), heard(chat, 'unsubscribed')];
    const asked = rejected(client.trigger('x'), 'connection-lost');
    await session.hear();
    await session.hear();
    session.socket.close(code, 'why');
    assert.deepEqual(await over, { code, reason: 'why', final: true });
    assert.equal((await left).reason, 'disconnected');
    await asked;
    assert.equal(client.state, 'closed');
    await rejected(client.trigger('x'), 'closed');
  }
  assert.equal(server.sessions.length, 2);
});

test('with reconnect false, the first loss is the end', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect({ reconnect: false });
  const over = heard(client, 'disconnected');
  session.socket.close(1012);
  assert.deepEqual(await over, { code: 1012, reason: '', final: true });
});

test('attempts are counted until one lasts, and their number is bounded', async (t) => {
  const server = await startServer(t);
  const expire = stopTime(t);
  server.greets = false;
  const client = server.client({ reconnect: { ...EAGER, maxAttempts: 3 }, timeout: 10 });
  const attempts = [];
  client.on('reconnecting', ({ attempt }) => attempts.push(attempt));
  const held = rejected(client.join('news'), 'closed');
  const over = heard(client, 'disconnected');
  for (let attempt = 0; attempt <= 3; attempt += 1) await expire(10);
  const { code, final } = await over;
  assert.deepEqual([code, final], [1006, true]);
  assert.deepEqual(attempts, [1, 2, 3]);
  await held;
  client.connect();
  const overAgain = heard(client, 'disconnected');
  for (let attempt = 0; attempt <= 3; attempt += 1) await expire(10);
  await overAgain;
  assert.deepEqual(attempts, [1, 2, 3, 1, 2, 3], 'connect begins anew');
});

test('only a connection that lasts makes it forget the attempts before', async (t) => {
  const server = await startServer(t);
  const expire = stopTime(t);
  const lasting = 250;
  const client = server.client({ reconnect: { minDelay: 0, maxDelay: lasting, jitter: 0 } });
  for (const attempt of [1, 2]) {
    await heard(client, 'connected');
    const told = heard(client, 'reconnecting');
    (await server.session()).socket.terminate();
    assert.equal((await told).attempt, attempt);
  }
  await heard(client, 'connected');
  await expire(lasting);
  const told = heard(client, 'reconnecting');
  (await server.session()).socket.terminate();
  assert.equal((await told).attempt, 1);
});

test('connect while waiting does not wait', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect({ reconnect: { minDelay: 60_000, maxDelay: 60_000 } });
  const told = heard(client, 'reconnecting');
  session.socket.terminate();
  assert.ok((await told).delay >= 30_000);
  assert.equal(client.state, 'waiting');
  client.connect();
  await heard(client, 'connected');
});

test('close while waiting ends it', async (t) => {
  const server = await startServer(t);
  const [client, session] = await server.connect({ reconnect: { minDelay: 60_000, maxDelay: 60_000 } });
  const [chat, news] = [await client.join('chat'), await client.join('news')];
  const ends = [];
  for (const channel of [chat, news]) channel.on('unsubscribed', ({ reason }) => ends.push(reason));
  client.on('error', ({ message }) => ends.push(message));
  const told = heard(client, 'reconnecting');
  session.socket.terminate();
  await told;
  const [held, leaving, over] = [rejected(client.trigger('x'), 'closed'), chat.leave(), heard(client, 'disconnected')];
  await client.close();
  await Promise.all([held, leaving]);
  assert.deepEqual(ends, ['disconnected', 'disconnected']);
  assert.equal((await over).final, true);
  assert.equal(client.state, 'closed');
  assert.equal(chat.state, 'left');
});

test('nothing that goes wrong tells a token to the console', async (t) => {
  const lines = [];
  for (const method of ['error', 'warn', 'log', 'info']) {
    t.mock.method(console, method, (...values) => lines.push(inspect(values, { depth: 9 })));
  }
  const server = await startServer(t, { auth: refuse(402, 'Unauthorized') });
  const expire = stopTime(t);
  const client = server.client({ token: 's3cr3t', timeout: 150 });
  await heard(client, 'connected');
  await rejected(client.authenticate('s3cr3t'), 402);
  server.answers.auth = silence;
  const authenticating = client.authenticate('s3cr3t');
  for (let heardOf = 0; heardOf < 3; heardOf += 1) await server.sessions[0].hear();
  server.sessions[0].socket.terminate();
  const second = await server.session().then(() => server.session());
  await second.hear();
  const closing = client.close();
  await expire(150);
  await closing;
  await rejected(authenticating, 'closed');
  assert.ok(lines.length > 0, 'the refused option is told');
  assert.ok(!lines.join().includes('s3cr3t'));
});
