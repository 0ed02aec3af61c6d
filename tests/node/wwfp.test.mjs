// WWFP over the `ws` client: a second reading of docs/protocol.md, independent of the Python tests.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';

import { within } from './awaiting.mjs';
import { Client } from './client.mjs';
import { SECRET, startFurnishedServer, startServer } from './server.mjs';

const STATUSES = {
  400: 'Bad request', 402: 'Unauthorized', 403: 'Forbidden', 451: 'Invalid channel name', 453: 'Not subscribed',
  454: 'Channel not found', 503: 'Service unavailable',
};

/** The text of an error; `ref` is JSON text. */
function error(code, ref) {
  return `{":error":{"code":${code},"status":"${STATUSES[code]}"${ref === undefined ? '' : `,"ref":${ref}`}}}`;
}

for (const shards of [1, 4]) {
  describe(`${shards} shards`, () => {
    let server;
    let clients = [];
    let number = 0;

    before(async () => {
      server = await startFurnishedServer({ shards });
    });
    afterEach(() => {
      for (const client of clients) client.socket.terminate();
      clients = [];
    });
    after(() => server?.stop());

    async function open({ path = '/test', protocols } = {}) {
      const client = new Client(`${server.websocketUrl}${path}`, protocols);
      clients.push(client);
      await within(client.opened, 'the handshake');
      return client;
    }

    /** A session that speaks WWFP, as `user` where one is named. */
    async function connect(user, options = { protocols: ['wwfp'] }) {
      const client = await open(options);
      const greeting = await client.hear();
      assert.match(greeting, /^\{":connected":\{"sid":"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"\}\}$/);
      client.sid = JSON.parse(greeting)[':connected'].sid;
      const auth = user === 'joe' ? { user, secret: SECRET } : { user };
      if (user) assert.equal(await client.ask({ auth }), '{":authenticated":{}}');
      return client;
    }

    /** A channel of its own for a test, opened by joe. */
    async function openChannel(joe, prefix = '') {
      const channel = `${prefix}c${(number += 1)}`;
      assert.equal(await joe.ask({ openChannel: { channel } }), `{":channelOpened":{"channel":"${channel}"}}`);
      return channel;
    }

    test('the dialect is chosen by subprotocol or query', async () => {
      assert.equal((await connect(null, { protocols: ['wwfp'] })).socket.protocol, 'wwfp');
      assert.equal((await connect(null, { protocols: ['chat', 'wwfp', 'webrocket'] })).socket.protocol, 'wwfp');
      assert.equal((await connect(null, { path: '/test?protocol=wwfp' })).socket.protocol, '');
      const classic = await open({ path: '/test?protocol=wwfp', protocols: ['webrocket', 'wwfp'] });
      assert.equal(classic.socket.protocol, 'webrocket');
      assert.equal(await classic.ask({ dance: 1 }), '{"err":"UNDEFINED_EVENT","event":"dance"}');
    });

    test('auth', async () => {
      const [printed] = (
        await server.ctl('token', 'issue', '/test', '--uid', 'tom', '--channels', 'private-room-[0-9]+')
      ).match(/\b[0-9a-f]{128}\b/);
      await server.ctl('channel', 'add', '/test', `private-room-${shards}`);
      const client = await connect();
      const room = { subscribe: { channel: `private-room-${shards}` } };
      assert.equal(await client.ask(room), error(403));
      for (const [auth, code] of [
        [{}, 400], [{ token: '' }, 400], [{ token: 5 }, 400], [{ user: null }, 400], [{ token: 'abc' }, 402],
        [{ user: 'eve' }, 402], [{ user: 'joe' }, 402], [{ user: 'joe', secret: 'no' }, 402],
      ]) {
        assert.equal(await client.ask({ auth: { ...auth, ref: 1 } }), error(code, 1), JSON.stringify(auth));
      }
      assert.equal(await client.ask({ auth: { token: printed, ref: 'a' } }), '{":authenticated":{"ref":"a"}}');
      assert.equal(await client.ask(room), `{":subscribed":{"channel":"private-room-${shards}","uid":"tom"}}`);
      assert.equal(await client.ask({ subscribe: { channel: 'private-hall-1' } }), error(403));
      assert.equal(await client.ask({ auth: { token: printed } }), error(402));
      assert.equal(await (await connect()).ask({ auth: { token: printed } }), error(402));
      // Being somebody else ends what tom subscribed.
      assert.equal(await client.ask({ auth: { user: 'joe', secret: SECRET } }), '{":authenticated":{}}');
      assert.equal(await client.ask({ unsubscribe: room.subscribe }), error(453));
    });

    test('subscribe and unsubscribe', async () => {
      const [joe, reader, anonymous] = [await connect('joe'), await connect('reader'), await connect()];
      for (const prefix of ['', 'private-']) {
        const channel = await openChannel(joe, prefix);
        const uid = prefix === '' ? '' : ',"uid":"reader"';
        assert.equal(await reader.ask({ unsubscribe: { channel } }), error(453));
        assert.equal(await reader.ask({ subscribe: { channel } }), `{":subscribed":{"channel":"${channel}"${uid}}}`);
        assert.equal(
          await reader.ask({ subscribe: { channel, ref: -7 } }),
          `{":subscribed":{"channel":"${channel}"${uid},"ref":-7}}`,
        );
        assert.equal(
          await reader.ask({ unsubscribe: { channel, ref: 'ü' } }),
          `{":unsubscribed":{"channel":"${channel}","ref":"ü"}}`,
        );
        assert.equal(await anonymous.ask({ subscribe: { channel } }), error(403));
      }
      const missing = [
        [{}, 400, 400], [{ channel: '' }, 400, 400], [{ channel: 5 }, 400, 400], [{ channel: 'a b' }, 454, 454],
        [{ channel: 'nowhere' }, 454, 454], [{ channel: 'private-nowhere' }, 403, 453],
      ];
      for (const [payload, subscribe, unsubscribe] of missing) {
        assert.equal(await anonymous.ask({ subscribe: payload }), error(subscribe), JSON.stringify(payload));
        assert.equal(await anonymous.ask({ unsubscribe: payload }), error(unsubscribe), JSON.stringify(payload));
      }
    });

    test('a broadcast reaches both dialects in the same bytes', async () => {
      const joe = await connect('joe');
      const channel = await openChannel(joe);
      const listeners = await Promise.all(Array.from({ length: 4 }, () => connect('reader')));
      for (const listener of listeners) await listener.ask({ subscribe: { channel } });
      for (let index = 0; index < 4; index += 1) {
        const listener = await open();
        assert.equal(await listener.ask({ authenticate: { user: 'reader' } }), '{"authenticated":"reader"}');
        assert.equal(await listener.ask({ subscribe: { channel } }), `{"subscribed":"${channel}"}`);
        listeners.push(listener);
      }
      assert.equal(await joe.ask({ broadcast: { channel, event: 'hello' } }), error(453));
      await joe.ask({ subscribe: { channel } });
      joe.say(`{"broadcast":{"event":"hello","channel":"${channel}","data":{"x": 1.50,"sid":"forged"}}}`);
      joe.say({ broadcast: { channel, event: 'bye', data: [1], ref: 'r' } });
      const hello = `{"hello":{"x": 1.50,"channel":"${channel}","sid":"${joe.sid}"}}`;
      const bye = `{"bye":{"data":[1],"channel":"${channel}","sid":"${joe.sid}"}}`;
      for (const listener of listeners) assert.deepEqual(await listener.hearAll(2), [hello, bye]);
      const own = await joe.hearAll(3);
      assert.deepEqual([...own].sort(), [hello, bye, '{":ok":{"code":204,"status":"Broadcasted","ref":"r"}}'].sort());
      assert.ok(own.indexOf(hello) < own.indexOf(bye));
      // One that is subscribed and may not write, and one that triggers where nobody works.
      assert.equal(await listeners[0].ask({ broadcast: { channel, event: 'e' } }), error(403));
      assert.equal(await joe.ask({ broadcast: { channel, event: 'e', trigger: 't', ref: 2 } }), error(503, 2));
      assert.equal(await joe.ask({ broadcast: { channel, event: ':e' } }), error(400));
      assert.equal(await joe.ask({ broadcast: { channel: 'nowhere', event: 'e' } }), error(454));
    });

    test('presence', async () => {
      const joe = await connect('joe');
      const channel = await openChannel(joe, 'presence-');
      const watching = `{":subscribed":{"channel":"${channel}","uid":"joe","subscribers":[]}}`;
      assert.equal(await joe.ask({ subscribe: { channel, hidden: true } }), watching);
      const tabs = [await connect('guest'), await connect('guest')];
      const list = '{"uid":"guest","mood":"fine","n":1}';
      const here = `{":memberJoined":{"uid":"guest","channel":"${channel}","mood":"fine","n":1}}`;
      tabs[0].say({ subscribe: { channel, data: { mood: 'fine', uid: 'forged', n: 1 } } });
      assert.deepEqual(await tabs[0].hearAll(2), [
        `{":subscribed":{"channel":"${channel}","uid":"guest","subscribers":[]}}`, here,
      ]);
      assert.equal(
        await tabs[1].ask({ subscribe: { channel, data: { n: 2 }, ref: 1 } }),
        `{":subscribed":{"channel":"${channel}","uid":"guest","subscribers":[${list}],"ref":1}}`,
      );
      const classic = await open();
      await classic.ask({ authenticate: { user: 'reader' } });
      assert.equal(await classic.ask({ subscribe: { channel } }), `{"subscribed":"${channel}"}`);
      const reader = `{":memberJoined":{"uid":"reader","channel":"${channel}"}}`;
      assert.deepEqual(await classic.hearAll(2), [
        `{":presence":{"channel":"${channel}","subscribers":[${list}]}}`, reader,
      ]);
      tabs[0].socket.terminate();
      assert.equal(
        await tabs[1].ask({ unsubscribe: { channel, data: { n: 3, why: 'late' } } }), reader,
      );
      assert.equal(await tabs[1].hear(), `{":unsubscribed":{"channel":"${channel}"}}`);
      const heard = await joe.hearAll(3);
      assert.deepEqual(heard.slice(0, 2), [here, reader]);
      // Which of the two was noticed last to go is a matter of time; that guest is gone is told once.
      assert.match(heard[2], new RegExp(`^\\{":memberLeft":\\{"uid":"guest","channel":"${channel}","mood":"fine","n":`));
      assert.equal(await classic.hear(), heard[2]);
      assert.equal(await joe.ask({ dance: {} }), error(400));
    });

    test('channels are opened and closed', async () => {
      const [joe, reader] = [await connect('joe'), await connect('reader')];
      const channel = await openChannel(joe, 'private-');
      await reader.ask({ subscribe: { channel } });
      assert.equal(
        await joe.ask({ closeChannel: { channel, ref: 1 } }), `{":channelClosed":{"channel":"${channel}","ref":1}}`,
      );
      assert.equal(await reader.hear(), `{":unsubscribed":{"channel":"${channel}"}}`);
      assert.equal(await joe.ask({ closeChannel: { channel } }), error(454));
      assert.equal(await joe.ask({ openChannel: { channel: '.' } }), error(451));
      assert.equal(await joe.ask({ openChannel: {} }), error(400));
      assert.equal(await reader.ask({ openChannel: { channel: '.' } }), error(403));
    });

    test('what is no request', async () => {
      const client = await connect('guest');
      for (const text of ['nonsense', '{}', '[]', '{"subscribe":true}', '{"dance":{}}', '{"authenticate":{}}']) {
        assert.equal(await client.ask(text), error(400), text);
      }
      for (const ref of [1.5, null, true, [], {}, 'x'.repeat(127)]) {
        assert.equal(await client.ask({ trigger: { event: 'e', ref } }), error(400), JSON.stringify(ref));
      }
      for (const ref of [0, -1, '', 'x'.repeat(126)]) {
        assert.equal(await client.ask({ trigger: { event: 'e', ref } }), error(503, JSON.stringify(ref)));
      }
      assert.equal(await (await connect()).ask({ trigger: { event: 'e' } }), error(403));
    });

    test('answers come in the order of requests', async () => {
      const joe = await connect('joe');
      const channels = [];
      for (let index = 0; index < 20; index += 1) channels.push(await openChannel(joe));
      for (const channel of channels) {
        joe.say({ subscribe: { channel } });
        joe.say({ broadcast: { channel, event: 'first' } });
        joe.say({ unsubscribe: { channel } });
        joe.say({ broadcast: { channel, event: 'late', ref: channel } });
      }
      for (const channel of channels) {
        assert.deepEqual(await joe.hearAll(4), [
          `{":subscribed":{"channel":"${channel}"}}`,
          `{"first":{"channel":"${channel}","sid":"${joe.sid}"}}`,
          `{":unsubscribed":{"channel":"${channel}"}}`,
          error(453, `"${channel}"`),
        ]);
      }
    });

    test('close', async () => {
      const [joe, guest] = [await connect('joe'), await connect('guest')];
      const channel = await openChannel(joe, 'presence-');
      await joe.ask({ subscribe: { channel, hidden: true } });
      guest.say({ subscribe: { channel, data: { a: 1 } } });
      await guest.hearAll(2);
      assert.equal(await guest.ask({ close: true }), error(400));
      assert.equal(
        await guest.ask({ close: { why: 'tired', ref: 'end' } }), `{":closed":{"sid":"${guest.sid}","ref":"end"}}`,
      );
      assert.equal(await guest.hearClose(), 1000);
      assert.deepEqual(await joe.hearAll(2), [
        `{":memberJoined":{"uid":"guest","channel":"${channel}","a":1}}`,
        `{":memberLeft":{"uid":"guest","channel":"${channel}","a":1,"why":"tired"}}`,
      ]);
    });

    test('close codes', async () => {
      const binary = await connect();
      binary.socket.send(Buffer.from('{"close":{}}'));
      assert.equal(await binary.hearClose(), 1003);
      const long = await connect();
      long.say('x'.repeat(65537));
      assert.equal(await long.hearClose(), 1009);
    });
  });
}

test('a vhost without users is open', async () => {
  const server = await startServer();
  const connect = async () => {
    const client = new Client(`${server.websocketUrl}/open`, ['wwfp']);
    await within(client.opened, 'the handshake');
    assert.match(await client.hear(), /^\{":connected":/);
    return client;
  };
  try {
    await server.ctl('vhost', 'add', '/open');
    await server.ctl('channel', 'add', '/open', 'news');
    const [one, two] = [await connect(), await connect()];
    const channel = 'news';
    for (const client of [one, two]) {
      assert.equal(await client.ask({ subscribe: { channel } }), '{":subscribed":{"channel":"news"}}');
    }
    one.say({ broadcast: { channel, event: 'hello' } });
    assert.equal(await one.hear(), await two.hear());
    await server.ctl('user', 'add', '/open', 'joe', '--rights', 'read');
    for (const client of [one, two]) {
      assert.equal(await client.hear(), '{":unsubscribed":{"channel":"news"}}');
      assert.equal(await client.ask({ subscribe: { channel } }), error(403));
    }
    await server.ctl('vhost', 'remove', '/open');
    assert.deepEqual(await Promise.all([one.hearClose(), two.hearClose()]), [4004, 4004]);
  } finally {
    await server.stop();
  }
});
