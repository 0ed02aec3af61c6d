// Whatever is asked and whenever connections break: a seeded application on a seeded bad network, judged by what the
// server has seen. A failing seed is run again with CHAOS_SEED=<seed>.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { within } from '../../../tests/node/awaiting.mjs';
import { startServer } from './fake.mjs';

const SEEDS = process.env.CHAOS_SEED ? [Number(process.env.CHAOS_SEED)] : Array.from({ length: 40 }, (_, i) => i + 1);
const STEPS = 120;
const CHANNELS = ['a', 'b', 'c', 'd'];

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function chanceOf(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A server that keeps subscriptions and tokens as the protocol says, and cuts connections by chance. */
async function startWorld(t, chance) {
  const world = { tokens: new Set(), carriedOut: [], calm: false };
  const error = (code, status) => ({ ':error': { code, status } });
  const of = (session) => (session.world ??= { channels: new Set(), token: null });
  // The connection breaks before a request is carried out, or after it but before the answer, or not.
  const shaky = (carryOut) => (payload, session) => {
    const fate = world.calm ? 1 : chance();
    if (session.cut) return null;
    const cut = fate < 0.1;
    const answer = fate < 0.05 ? null : carryOut(payload, of(session));
    if (!cut) return answer;
    session.cut = true;
    session.socket.terminate();
    return null;
  };
  const server = await startServer(t, {
    auth: shaky(({ token }, state) => {
      if (world.tokens.has(token)) return error(402, 'Unauthorized');
      world.tokens.add(token);
      state.token = token;
      state.channels.clear();
      return { ':authenticated': {} };
    }),
    subscribe: shaky(({ channel }, state) => {
      state.channels.add(channel);
      return { ':subscribed': { channel } };
    }),
    unsubscribe: shaky(({ channel }, state) =>
      (state.channels.delete(channel) ? { ':unsubscribed': { channel } } : error(453, 'Not subscribed'))),
    broadcast: shaky(({ channel, data }, state) => {
      if (!state.channels.has(channel)) return error(453, 'Not subscribed');
      world.carriedOut.push(data.number);
      return { ':ok': { code: 204, status: 'Broadcasted' } };
    }),
  });
  return { world, server, of };
}

test(`${SEEDS.length} seeds: nothing is lost, doubled or out of order`, async (t) => {
  for (const seed of SEEDS) {
    const chance = chanceOf(seed);
    const pick = (list) => list[Math.floor(chance() * list.length)];
    const { world, server, of } = await startWorld(t, chance);
    const client = server.client();
    const complaints = [];
    client.on('error', (error) => complaints.push(error));
    let issued = 0;
    const token = async () => `token ${(issued += 1)}`;

    const wanted = new Map();
    const asked = [];
    const outcomes = [];
    let authenticates = false;
    for (let number = 0; number < STEPS; number += 1) {
      const channel = client.channel(pick(CHANNELS));
      const dice = chance();
      if (dice < 0.15) {
        wanted.set(channel.name, true);
        asked.push(channel.join());
      } else if (dice < 0.25) {
        wanted.set(channel.name, false);
        asked.push(channel.leave());
      } else if (dice < 0.3) {
        authenticates = true;
        asked.push(client.authenticate(token));
      } else {
        const outcome = { number, code: null };
        outcomes.push(outcome);
        asked.push(channel.broadcast('x', { number }).then(() => (outcome.code = 204), ({ code }) => (outcome.code = code)));
      }
      if (chance() < 0.3) await new Promise((resolve) => setImmediate(resolve));
    }
    await within(Promise.all(asked), `all answers, seed ${seed}`);

    world.calm = true;
    for (const [name, isWanted] of wanted) await (isWanted ? client.join(name) : client.channel(name).leave());
    await client.openChannel('settled');
    const session = server.sessions[server.sessions.length - 1];
    const told = `seed ${seed}`;
    const joined = [...wanted].filter(([, isWanted]) => isWanted).map(([name]) => name).sort();
    assert.deepEqual([...of(session).channels].sort(), joined, told);
    for (const name of CHANNELS) assert.equal(client.channel(name).state, joined.includes(name) ? 'joined' : 'left', told);
    assert.equal(of(session).token !== null, authenticates, told);
    assert.deepEqual(complaints, [], told);

    assert.deepEqual(world.carriedOut, [...new Set(world.carriedOut)].sort((a, b) => a - b), `${told}: once each, in order`);
    for (const { number, code } of outcomes) {
      assert.ok([204, 453, 'connection-lost'].includes(code), `${told}: ${code}`);
      if (code !== 'connection-lost') assert.equal(world.carriedOut.includes(number), code === 204, told);
    }
    await client.close();
  }
});
