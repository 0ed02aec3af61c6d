// The classic dialect over the `ws` client: a second reading of docs/protocol.md, independent of the Python tests.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';

import { within } from './awaiting.mjs';
import { Client } from './client.mjs';
import { SECRET, startFurnishedServer, startServer } from './server.mjs';

for (const shards of [1, 4]) {
  describe(`${shards} shards`, () => {
    let server;
    let clients = [];

    before(async () => {
      server = await startFurnishedServer({ shards });
    });
    afterEach(() => {
      for (const client of clients) client.socket.terminate();
      clients = [];
    });
    after(() => server?.stop());

    async function connect(user, { path = '/test', protocols } = {}) {
      const client = new Client(`${server.websocketUrl}${path}`, protocols);
      clients.push(client);
      await within(client.opened, 'the handshake');
      if (user) assert.equal(await client.ask({ authenticate: { user } }), `{"authenticated":"${user}"}`);
      return client;
    }

    test('a user with a secret', async () => {
      const client = await connect();
      assert.equal(await client.ask({ authenticate: { user: 'joe' } }), '{"err":"INVALID_CREDENTIALS"}');
      assert.equal(await client.ask({ authenticate: { user: 'joe', secret: 'no' } }), '{"err":"INVALID_CREDENTIALS"}');
      assert.equal(await client.ask({ authenticate: { user: 'eve', secret: 'no' } }), '{"err":"USER_NOT_FOUND"}');
      assert.equal(await client.ask({ authenticate: { user: '' } }), '{"err":"INVALID_USER_NAME"}');
      assert.equal(await client.ask({ authenticate: { user: 'joe', secret: SECRET } }), '{"authenticated":"joe"}');
      assert.equal(await client.ask({ logout: true }), '{"loggedOut":true}');
      assert.equal(await client.ask({ logout: true }), '{"err":"ACCESS_DENIED"}');
    });

    test('a single access token is good for one session', async () => {
      const printed = await server.ctl('token', 'issue', '/test', '--uid', 'tom', '--channels', 'room-[0-9]+');
      const [token] = printed.match(/\b[0-9a-f]{128}\b/);
      const client = await connect();
      assert.equal(await client.ask({ authenticate: { token } }), '{"authenticated":"tom"}');
      assert.equal(await client.ask({ subscribe: { channel: 'room-1' } }), '{"subscribed":"room-1"}');
      assert.equal(await client.ask({ subscribe: { channel: 'hall-1' } }), '{"err":"ACCESS_DENIED"}');
      assert.equal(await (await connect()).ask({ authenticate: { token } }), '{"err":"INVALID_CREDENTIALS"}');
    });

    test('a broadcast reaches all subscribers, once, in the same bytes', async () => {
      const channels = ['red', 'green', 'blue', 'cyan', 'pink'];
      const subscribers = await Promise.all(Array.from({ length: 6 }, () => connect('reader')));
      const sender = await connect('guest');
      for (const subscriber of subscribers) {
        for (const channel of channels) {
          assert.equal(await subscriber.ask({ subscribe: { channel } }), `{"subscribed":"${channel}"}`);
        }
      }
      for (const channel of channels) {
        const request = `{"broadcast":{"event":"hello","channel":"${channel}","data":{"x": 1.50,"sid":"forged"}}}`;
        assert.equal(await sender.ask(request), `{"broadcasted":"${channel}"}`);
      }
      const heard = await Promise.all(
        subscribers.map(async (subscriber) => {
          const texts = [];
          for (const _ of channels) texts.push(await subscriber.hear());
          return texts.sort();
        }),
      );
      for (const texts of heard) assert.deepEqual(texts, heard[0]);
      for (const [index, channel] of [...channels].sort().entries()) {
        const { hello } = JSON.parse(heard[0][index]);
        assert.match(heard[0][index], /^\{"hello":\{"x": 1\.50\s*,"channel":"/);
        assert.deepEqual(Object.keys(hello), ['x', 'channel', 'sid']);
        assert.equal(hello.channel, channel);
        assert.match(hello.sid, /^[0-9a-f-]{36}$/);
      }
    });

    test('events keep the order in which one sender sent them', async () => {
      const [subscriber, sender] = [await connect('reader'), await connect('guest')];
      assert.equal(await subscriber.ask({ subscribe: { channel: 'news' } }), '{"subscribed":"news"}');
      const count = 500;
      for (let number = 0; number < count; number += 1) {
        sender.say({ broadcast: { event: 'tick', channel: 'news', data: { number } } });
      }
      for (let number = 0; number < count; number += 1) {
        assert.equal(JSON.parse(await subscriber.hear()).tick.number, number);
        assert.equal(await sender.hear(), '{"broadcasted":"news"}');
      }
    });

    test('who has unsubscribed hears nothing more', async () => {
      const [leaving, staying, sender] = [await connect('reader'), await connect('reader'), await connect('guest')];
      for (const client of [leaving, staying]) {
        assert.equal(await client.ask({ subscribe: { channel: 'news' } }), '{"subscribed":"news"}');
      }
      assert.equal(await leaving.ask({ unsubscribe: { channel: 'news' } }), '{"unsubscribed":"news"}');
      assert.equal(await sender.ask({ broadcast: { event: 'a', channel: 'news' } }), '{"broadcasted":"news"}');
      assert.match(await staying.hear(), /^\{"a":/);
      // The answer of the channel comes behind all that it has sent.
      assert.equal(await leaving.ask({ subscribe: { channel: 'news' } }), '{"subscribed":"news"}');
      assert.equal(await staying.ask({ unsubscribe: { channel: 'news' } }), '{"unsubscribed":"news"}');
    });

    test('errors', async () => {
      const [anonymous, reader, guest, joe] = [
        await connect(), await connect('reader'), await connect('guest'), await connect(),
      ];
      await joe.ask({ authenticate: { user: 'joe', secret: SECRET } });
      const rows = [
        [anonymous, 'nonsense', 'INVALID_PAYLOAD'],
        [anonymous, '{}', 'INVALID_PAYLOAD'],
        [anonymous, { subscribe: { channel: 'c' } }, 'ACCESS_DENIED'],
        [anonymous, { trigger: { event: 'e' } }, 'ACCESS_DENIED'],
        [reader, { subscribe: true }, 'INVALID_PAYLOAD'],
        [reader, { subscribe: {} }, 'INVALID_CHANNEL_NAME'],
        [reader, { subscribe: { channel: 'private-c' } }, 'ACCESS_DENIED'],
        [reader, { unsubscribe: { channel: 'nowhere' } }, 'CHANNEL_NOT_FOUND'],
        [reader, { broadcast: { event: 'e', channel: 'c' } }, 'ACCESS_DENIED'],
        [guest, { broadcast: { channel: 'c' } }, 'INVALID_EVENT_NAME'],
        [guest, { broadcast: { event: 'subscribed', channel: 'c' } }, 'INVALID_EVENT_NAME'],
        [guest, { broadcast: { event: 'e', channel: '' } }, 'INVALID_CHANNEL_NAME'],
        [guest, { broadcast: { event: 'e', channel: 'nowhere' } }, 'CHANNEL_NOT_FOUND'],
        [guest, { trigger: { event: 'e' } }, 'ASSIGNATION_FAILED'],
        [guest, { openChannel: { channel: 'c' } }, 'ACCESS_DENIED'],
        [joe, { openChannel: { channel: '.' } }, 'INVALID_CHANNEL_NAME'],
        [joe, { closeChannel: { channel: 'nowhere' } }, 'CHANNEL_NOT_FOUND'],
        [guest, { logout: 'please' }, 'INVALID_PAYLOAD'],
        [guest, { disconnect: 'please' }, 'INVALID_PAYLOAD'],
      ];
      for (const [client, request, id] of rows) {
        assert.equal(await client.ask(request), `{"err":"${id}"}`, JSON.stringify(request));
      }
    });

    test('presence', async () => {
      const joe = await connect();
      await joe.ask({ authenticate: { user: 'joe', secret: SECRET } });
      const channel = 'presence-hall';
      assert.equal(await joe.ask({ subscribe: { channel } }), `{"subscribed":"${channel}"}`);
      assert.equal(await joe.hear(), `{":presence":{"channel":"${channel}","subscribers":[]}}`);
      assert.equal(await joe.hear(), `{":memberJoined":{"uid":"joe","channel":"${channel}"}}`);
      const guest = await connect('guest');
      assert.equal(await guest.ask({ subscribe: { channel } }), `{"subscribed":"${channel}"}`);
      assert.equal(await guest.hear(), `{":presence":{"channel":"${channel}","subscribers":[{"uid":"joe"}]}}`);
      assert.equal(await guest.hear(), `{":memberJoined":{"uid":"guest","channel":"${channel}"}}`);
      assert.equal(await joe.hear(), `{":memberJoined":{"uid":"guest","channel":"${channel}"}}`);
      guest.socket.terminate();
      assert.equal(await joe.hear(), `{":memberLeft":{"uid":"guest","channel":"${channel}"}}`);
      assert.equal(await joe.ask({ unsubscribe: { channel } }), `{"unsubscribed":"${channel}"}`);
    });

    test('a closed channel is told to its subscribers', async () => {
      const [joe, reader] = [await connect(), await connect('reader')];
      await joe.ask({ authenticate: { user: 'joe', secret: SECRET } });
      assert.equal(await joe.ask({ openChannel: { channel: 'private-hall' } }), '{"channelOpened":"private-hall"}');
      assert.equal(await reader.ask({ subscribe: { channel: 'private-hall' } }), '{"subscribed":"private-hall"}');
      assert.equal(await joe.ask({ closeChannel: { channel: 'private-hall' } }), '{"channelClosed":"private-hall"}');
      assert.equal(await reader.hear(), '{"unsubscribed":"private-hall"}');
    });

    test('subprotocols', async () => {
      assert.equal((await connect(null, { protocols: ['webrocket'] })).socket.protocol, 'webrocket');
      assert.equal((await connect(null, { path: '/test?protocol=webrocket' })).socket.protocol, '');
    });

    test('an unknown vhost is refused before the upgrade', async () => {
      await assert.rejects(connect(null, { path: '/elsewhere' }), /404/);
    });

    test('close codes', async () => {
      const leaving = await connect();
      leaving.say({ disconnect: true });
      assert.equal(await leaving.hearClose(), 1000);

      const binary = await connect();
      binary.socket.send(Buffer.from('{"dance":1}'));
      assert.equal(await binary.hearClose(), 1003);

      const long = await connect();
      long.say('x'.repeat(65537));
      assert.equal(await long.hearClose(), 1009);

      const closing = await connect();
      closing.socket.close(4321, 'enough');
      assert.equal(await closing.hearClose(), 4321);
    });
  });
}

test('shutdown closes with 1012, a removed vhost with 4004', async () => {
  const server = await startServer();
  try {
    for (const vhost of ['/one', '/two']) await server.ctl('vhost', 'add', vhost);
    const [one, two] = ['/one', '/two'].map((vhost) => new Client(`${server.websocketUrl}${vhost}`));
    await within(Promise.all([one.opened, two.opened]), 'the handshakes');
    await server.ctl('vhost', 'remove', '/one');
    assert.equal(await one.hearClose(), 4004);
    await server.stop();
    assert.equal(await two.hearClose(), 1012);
  } finally {
    await server.stop();
  }
});
