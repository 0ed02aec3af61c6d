// The JavaScript client (clients/javascript) with the real server: what an application does with it, and restarts.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';

import { WebSocket } from 'ws';

import { build } from '../../clients/javascript/build.mjs';
import { WebRocket } from '../../clients/javascript/webrocket.mjs';
import { PATIENCE_MS, heard, members, rejected, within } from './awaiting.mjs';
import { SECRET, ownHost, startServer } from './server.mjs';

let clients = [];
afterEach(async () => {
  for (const client of clients) client.off('error');
  await Promise.all(clients.map((client) => client.close()));
  clients = [];
});

/** A client that is closed after the test; what it complains of without being listened to fails the test. */
function open(server, vhost, options) {
  const client = new WebRocket(server.websocketUrl + vhost, {
    WebSocket, timeout: PATIENCE_MS, reconnect: { minDelay: 10, maxDelay: 200 }, ...options,
  });
  clients.push(client);
  return client;
}

/** Every broadcast that the channel receives from now on, and a promise of the first `count`. */
function gather(channel, count) {
  const all = [];
  const enough = new Promise((resolve) => {
    channel.on('received', (event, data) => {
      all.push([event, data]);
      if (all.length === count) resolve(all);
    });
  });
  return within(enough, `${count} broadcasts`);
}

async function issue(server, vhost, uid, channels) {
  return (await server.ctl('token', 'issue', vhost, '--uid', uid, '--channels', channels)).trim();
}

for (const shards of [1, 4]) {
  describe(`${shards} shards`, () => {
    let server;
    before(async () => {
      server = await startServer({ shards });
      for (const vhost of ['/open', '/staff']) await server.ctl('vhost', 'add', vhost);
      await server.ctl('user', 'add', '/staff', 'joe', '--secret', SECRET, '--rights', 'read,write,manage');
      await server.ctl('user', 'add', '/staff', 'reader', '--rights', 'read');
      for (const channel of ['news', 'chat', 'private-room', 'presence-hall']) {
        await server.ctl('channel', 'add', '/open', channel);
        await server.ctl('channel', 'add', '/staff', channel);
      }
    });
    after(() => server?.stop());

    test('two clients broadcast to each other, in one order', async () => {
      const [ann, ben] = [open(server, '/open'), open(server, '/open')];
      const [annChat, benChat] = await Promise.all([ann.join('chat'), ben.join('chat')]);
      assert.equal(annChat.uid, null);
      const first = heard(benChat.event('say'));
      await annChat.event('say').fire({ text: 'hi', n: [1, null] });
      const [data, { sid, event, channel }] = await first;
      assert.deepEqual([data, sid, event, channel], [{ text: 'hi', n: [1, null] }, ann.sid, 'say', benChat]);

      const count = 600;
      const seen = Promise.all([gather(annChat, count), gather(benChat, count)]);
      await Promise.all(Array.from({ length: count / 2 }, (_, number) => [
        annChat.broadcast('ann', { number }), benChat.broadcast('ben', { number }),
      ]).flat());
      const [bySelf, byOther] = await seen;
      assert.deepEqual(bySelf, byOther);
      for (const who of ['ann', 'ben']) {
        const numbers = bySelf.filter(([name]) => name === who).map((entry) => entry[1].number);
        assert.deepEqual(numbers, Array.from({ length: count / 2 }, (_, number) => number));
      }
    });

    test('data that is no object, and no data', async () => {
      const client = open(server, '/open');
      const chat = await client.join('chat');
      const seen = gather(chat, 4);
      for (const data of ['bare', null, [1], undefined]) chat.broadcast('say', data);
      assert.deepEqual((await seen).map(([, data]) => data), [{ data: 'bare' }, { data: null }, { data: [1] }, {}]);
    });

    test('a private channel with a single access token', async () => {
      const token = await issue(server, '/open', 'tom', 'private-.*');
      const tom = open(server, '/open', { token });
      const room = await tom.join('private-room');
      assert.equal(room.uid, 'tom');
      const seen = heard(room.event('say'));
      await room.event('say').fire({ text: 'psst' });
      await seen;

      const eve = open(server, '/open');
      await rejected(eve.join('private-room'), 403);
      await rejected(eve.join('private-nothing'), 403);
      await rejected(eve.authenticate(token), 402);
      await eve.authenticate(() => issue(server, '/open', 'eve', 'private-room'));
      await eve.join('private-room');
      await room.leave();
      await rejected(room.broadcast('say'), 453);
    });

    test('presence: data, hidden subscribers, several sessions of one uid, farewells', async () => {
      const arrive = (uid) => open(server, '/open', { token: () => issue(server, '/open', uid, 'presence-.*') });
      const [ann, ben, benToo, ghost] = ['ann', 'ben', 'ben', 'ghost'].map(arrive);
      const hall = ann.channel('presence-hall');
      const told = [];
      hall.on('online', (uid, data) => told.push(['online', uid, data]));
      hall.on('offline', (uid, data) => told.push(['offline', uid, data]));

      const self = heard(hall, 'online');
      await hall.join({ data: { name: 'Ann' } });
      assert.equal(hall.uid, 'ann');
      await self;
      await ghost.join('presence-hall', { hidden: true, data: { name: 'Boo' } });
      assert.deepEqual(members(ghost.channel('presence-hall')), { ann: { name: 'Ann' } });

      let change = heard(hall, 'online');
      const benHall = await ben.join('presence-hall', { data: { name: 'Ben' } });
      await change;
      assert.deepEqual(members(benHall).ann, { name: 'Ann' });
      await benToo.join('presence-hall', { data: { name: 'Ben again' } });
      assert.deepEqual(members(hall), { ann: { name: 'Ann' }, ben: { name: 'Ben' } });

      await benHall.leave({ data: { why: 'coffee' } });
      change = heard(hall, 'offline');
      await benToo.close({ why: 'bed' });
      await change;
      await ghost.close();
      const [last] = await Promise.all([gather(hall, 1), hall.broadcast('end')]);
      assert.deepEqual(last, [['end', {}]]);
      assert.deepEqual(members(hall), { ann: { name: 'Ann' } });
      assert.equal(hall.subscriberCount, 1);
      assert.deepEqual(told.slice(0, 2), [['online', 'ann', { name: 'Ann' }], ['online', 'ben', { name: 'Ben' }]]);
      assert.deepEqual(told[2].slice(0, 2), ['offline', 'ben']);
      assert.equal(told[2][2].why, 'bed');
      assert.equal(told.length, 3);
    });

    test('a backend broadcasts, and speaks to one session', async () => {
      const credentials = btoa(`wr:${JSON.parse(await server.ctl('--json', 'vhost', 'show', '/open')).token}`);
      const post = async (resource, data) => {
        const { status } = await fetch(`${server.httpUrl}/open/${resource}/events`, {
          method: 'POST', headers: { Authorization: `Basic ${credentials}` }, body: JSON.stringify({ event: 'hint', data }),
        });
        assert.equal(status, 202);
      };
      const client = open(server, '/open');
      const chat = await client.join('chat');
      const broadcast = heard(chat.event('hint'));
      await post('channels/chat', { text: 'all' });
      const [data, { sid }] = await broadcast;
      assert.deepEqual([data, sid], [{ text: 'all' }, undefined]);
      const direct = heard(client, 'message');
      await post(`sessions/${client.sid}`, { text: 'you' });
      assert.deepEqual(await direct, ['hint', { text: 'you' }]);
    });

    test('errors by code', async () => {
      const anonymous = open(server, '/staff');
      await rejected(anonymous.join('news'), 403);
      await rejected(anonymous.trigger('work'), 403);
      await rejected(anonymous.authenticate({ user: 'joe', secret: 'wrong' }), 402);
      await rejected(anonymous.authenticate({ user: 'nobody' }), 402);
      await rejected(anonymous.authenticate('0'.repeat(128)), 402);

      const joe = open(server, '/staff', { token: { user: 'joe', secret: SECRET } });
      const news = await joe.join('news');
      assert.equal((await rejected(joe.join('nowhere'), 454)).status, 'Channel not found');
      await rejected(joe.join('no name'), 454);
      await rejected(joe.channel('chat').broadcast('say'), 453);
      await rejected(news.broadcast(':connected'), 400);
      await rejected(news.broadcast(''), 400);
      await rejected(joe.openChannel('no name'), 451);
      await rejected(joe.closeChannel('nowhere'), 454);
      await rejected(joe.trigger('work', {}), 503);
      await rejected(joe.join('presence-hall', { data: ['no object'] }), 400);
      const long = await rejected(joe.join('presence-hall', { data: { long: 'x'.repeat(1024) } }), 400);
      assert.equal(long.reason, 'data too long');
      await news.leave();
      await news.leave();

      const reader = open(server, '/staff', { token: { user: 'reader' } });
      const readable = await reader.join('news');
      await rejected(readable.broadcast('say'), 403);
      await rejected(reader.openChannel('more'), 403);
    });

    test('channels are opened and closed under their subscribers', async () => {
      const joe = open(server, '/staff', { token: { user: 'joe', secret: SECRET } });
      const reader = open(server, '/staff', { token: { user: 'reader' } });
      await joe.openChannel('brief');
      const brief = await reader.join('brief');
      const told = heard(brief, 'unsubscribed');
      await joe.closeChannel('brief');
      assert.equal((await told).reason, 'closed');
      assert.equal(brief.state, 'left');
    });

    test('authenticating in the middle keeps the channels', async () => {
      const client = open(server, '/open');
      const chat = await client.join('chat');
      const again = heard(chat, 'subscribed');
      const asked = [client.authenticate(await issue(server, '/open', 'tom', 'private-.*')), chat.broadcast('say')];
      const seen = heard(chat.event('say'));
      await Promise.all(asked);
      assert.deepEqual(await again, { rejoined: true });
      await seen;
    });

    test('a message that is too long costs the connection, not the client', async () => {
      const client = open(server, '/open');
      const chat = await client.join('chat');
      const lost = heard(client, 'disconnected');
      const again = heard(chat, 'subscribed');
      await rejected(chat.broadcast('say', 'x'.repeat(65536)), 'connection-lost');
      assert.equal((await lost).code, 1009);
      await again;
      await chat.broadcast('say');
    });

    test('close, and what it leaves', async () => {
      const client = open(server, '/open');
      const chat = await client.join('chat');
      const over = heard(client, 'disconnected');
      await client.close();
      assert.deepEqual(await over, { code: 1000, reason: '', final: true });
      assert.equal(chat.state, 'left');
      await rejected(chat.broadcast('say'), 'closed');
    });
  });
}

test('the server has the script that the npm package has', async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  await server.ctl('vhost', 'add', '/world');
  const script = async (address) => (await fetch(server.httpUrl + address)).text();
  const packed = build()['webrocket.js'];
  assert.equal(await script('/webrocket.js'), packed);
  const preconfigured = readFileSync(new URL('../../clients/javascript/preconfigured.js', import.meta.url), 'utf8');
  assert.equal(await script('/world/webrocket.js'), `${packed}\n${preconfigured}`);
});

test('a vhost that is removed ends its clients', async () => {
  const server = await startServer();
  try {
    await server.ctl('vhost', 'add', '/brief');
    const client = open(server, '/brief');
    await heard(client, 'connected');
    const over = heard(client, 'disconnected');
    await server.ctl('vhost', 'remove', '/brief');
    const { code, final } = await over;
    assert.deepEqual([code, final], [4004, true]);
  } finally {
    await server.stop();
  }
});

describe('a server that is started again', () => {
  /** At once: whoever comes too early waits until the server knows everything that is stored. */
  const reconnect = { minDelay: 5, maxDelay: 20 };

  /** A server that keeps its data and its port. */
  async function start(t, dataDir, address = `${ownHost()}:0`) {
    const server = await startServer({ args: ['--data-dir', dataDir, '--websocket-addr', address] });
    t.after(() => server.stop());
    return server;
  }

  for (const signal of ['SIGTERM', 'SIGKILL']) {
    test(`by ${signal}: the client authenticates, joins again, and sends what waited`, async (t) => {
      const dataDir = mkdtempSync(path.join(tmpdir(), 'webrocket-client-'));
      t.after(() => rmSync(dataDir, { recursive: true, force: true }));
      let running = start(t, dataDir);
      const server = await running;
      await server.post('/vhosts', { path: '/world' });
      for (const name of ['chat', 'presence-hall']) await server.post('/vhosts/%2Fworld/channels', { name });

      let tokens = 0;
      const tokenOf = (uid) => async () => {
        tokens += 1;
        return (await (await running).post('/vhosts/%2Fworld/tokens', { uid, channels: 'presence-.*' })).token;
      };
      const [ann, ben] = ['ann', 'ben'].map((uid) => open(server, '/world', { token: tokenOf(uid), reconnect }));
      const [annHall, benHall] = await Promise.all([ann, ben].map((client, number) =>
        client.join('presence-hall', { data: { number } })));
      const benChat = await ben.join('chat');
      assert.equal(tokens, 2);

      const lost = Promise.all([ann, ben].map((client) => heard(client, 'disconnected')));
      const back = [annHall, benHall, benChat].map((channel) => heard(channel, 'subscribed'));
      const stopped = server.stop(signal);
      for (const { code, final } of await lost) {
        assert.deepEqual([code, final], [signal === 'SIGTERM' ? 1012 : 1006, false]);
      }
      await stopped;
      assert.deepEqual([annHall.state, benChat.state], ['joining', 'joining']);

      const seen = gather(ann.channel('chat'), 3);
      const held = [ann.join('chat'), ...[1, 2, 3].map((number) => ann.channel('chat').broadcast('say', { number }))];
      running = start(t, dataDir, server.address);
      assert.deepEqual(await Promise.all(back), Array(3).fill({ rejoined: true }));
      await Promise.all(held);
      assert.deepEqual((await seen).map(([, { number }]) => number), [1, 2, 3]);
      assert.equal(tokens, 4);
      // Each sees the other, whoever was first: the list or what came after it tells.
      for (const hall of [annHall, benHall]) {
        while (hall.subscribers.size < 2) await heard(hall, 'online');
        assert.deepEqual(members(hall), { ann: { number: 0 }, ben: { number: 1 } });
      }
    });
  }

  test('a fixed token stays behind', async (t) => {
    const dataDir = mkdtempSync(path.join(tmpdir(), 'webrocket-client-'));
    t.after(() => rmSync(dataDir, { recursive: true, force: true }));
    let server = await start(t, dataDir);
    await server.post('/vhosts', { path: '/world' });
    for (const name of ['chat', 'private-room']) await server.post('/vhosts/%2Fworld/channels', { name });
    const { token } = await server.post('/vhosts/%2Fworld/tokens', { uid: 'ann', channels: 'private-.*' });
    const client = open(server, '/world', { token, reconnect });
    const [chat, room] = await Promise.all([client.join('chat'), client.join('private-room')]);
    const errors = [];
    client.on('error', ({ code }) => errors.push(code));
    const [over, again] = [heard(room, 'unsubscribed'), heard(chat, 'subscribed')];
    await server.stop();
    server = await start(t, dataDir, server.address);
    const { reason, error } = await over;
    assert.deepEqual([reason, error.code], ['refused', 403]);
    await again;
    assert.deepEqual(errors, ['token-spent', 403]);
  });
});
