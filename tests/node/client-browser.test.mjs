// The JavaScript client in a real browser: the classic script, on a page of another origin than the server's.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { build } from '../../clients/javascript/build.mjs';
import { PATIENCE_MS } from './awaiting.mjs';
import { launch } from './chromium.mjs';
import { ownHost, startServer } from './server.mjs';

const SCRIPT = build()['webrocket.js'];

let browser;
let pages;
before(async () => {
  pages = http.createServer((request, response) => {
    const isScript = request.url === '/webrocket.js';
    response.writeHead(200, { 'Content-Type': isScript ? 'text/javascript' : 'text/html' });
    // The icon stands in the page, so that the browser asks for nothing else.
    response.end(isScript ? SCRIPT : '<!doctype html><link rel=icon href="data:,"><script src="/webrocket.js"></script>');
  }).listen(0, '127.0.0.1');
  await once(pages, 'listening');
  browser = await launch();
});
after(async () => {
  await browser?.close();
  pages?.close();
});

/** A server that is gone after the test. */
async function serve(t, args = []) {
  const server = await startServer({ args });
  t.after(() => server.stop());
  return server;
}

/** Gives the server a vhost with two channels. */
async function arrange(server) {
  await server.ctl('vhost', 'add', '/world');
  for (const channel of ['chat', 'presence-hall']) await server.ctl('channel', 'add', '/world', channel);
}

const issue = async (server, uid) =>
  (await server.ctl('token', 'issue', '/world', '--uid', uid, '--channels', 'presence-.*')).trim();

/** A page that has the script; `complaints` gathers console errors and uncaught exceptions. */
async function visit(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
  });
  await page.goto(`http://127.0.0.1:${pages.address().port}/`);
  return { page, complaints };
}

/** Makes the page's client `wr`; `tokens` are what its token function gives, one after the other. */
const connect = (page, server, tokens) => page.evaluate(([url, given]) => {
  const reconnect = { minDelay: 20, maxDelay: 50 };
  window.wr = new WebRocket(url, { reconnect, ...(given && { token: async () => given.shift() }) });
  window.seen = [];
}, [`${server.httpUrl}/world`, tokens]);

test('two pages broadcast to each other', async (t) => {
  const server = await serve(t);
  await arrange(server);
  const [ann, ben] = [await visit(t), await visit(t)];
  for (const { page } of [ann, ben]) {
    await connect(page, server);
    await page.evaluate(async () => {
      const chat = wr.channel('chat');
      chat.event('say').on((data, { sid }) => seen.push([data.text, sid === wr.sid]));
      await chat.join();
    });
  }
  for (const { page } of [ann, ben]) await page.evaluate(() => wr.channel('chat').event('say').fire({ text: 'ä 🚀' }));
  await Promise.all([ann, ben].map(({ page }) => page.waitForFunction(() => seen.length === 2)));
  assert.deepEqual(await ann.page.evaluate(() => seen), [['ä 🚀', true], ['ä 🚀', false]]);
  assert.deepEqual(await ben.page.evaluate(() => seen), [['ä 🚀', false], ['ä 🚀', true]]);
  assert.deepEqual([...ann.complaints, ...ben.complaints], []);
});

test('presence with tokens; errors; a closed page is told', async (t) => {
  const server = await serve(t);
  await arrange(server);
  const [ann, ben] = [await visit(t), await visit(t)];
  await connect(ann.page, server, [await issue(server, 'ann')]);
  await connect(ben.page, server, [await issue(server, 'ben')]);
  await ann.page.evaluate(() => wr.join('presence-hall', { data: { name: 'Ann' } }));
  await ben.page.evaluate(() => wr.join('presence-hall', { data: { name: 'Ben' } }));
  await ann.page.waitForFunction(() => wr.channel('presence-hall').subscribers.size === 2);
  const seenByBen = await ben.page.evaluate(() => Object.fromEntries(wr.channel('presence-hall').subscribers));
  assert.deepEqual(seenByBen.ann, { name: 'Ann' });

  const error = await ann.page.evaluate(() => wr.join('nowhere').catch(({ code, status, message }) => ({ code, status, message })));
  assert.deepEqual(error, { code: 454, status: 'Channel not found', message: 'subscribe nowhere: 454 Channel not found' });

  await ben.page.close();
  await ann.page.waitForFunction(() => wr.channel('presence-hall').subscribers.size === 1);
  assert.deepEqual([...ann.complaints, ...ben.complaints], []);
});

test('after a restart the page is back by itself, and says what it had to say', async (t) => {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'webrocket-client-browser-'));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const first = await serve(t, ['--data-dir', dataDir, '--websocket-addr', `${ownHost()}:0`]);
  await first.ctl('vhost', 'add', '/world');
  await first.ctl('channel', 'add', '/world', 'chat');

  const { page, complaints } = await visit(t);
  await connect(page, first);
  await page.evaluate(async () => {
    const chat = await wr.join('chat');
    wr.on('disconnected', ({ code }) => seen.push(code));
    wr.on('connected', ({ reconnected }) => seen.push({ reconnected }));
    chat.on('subscribed', ({ rejoined }) => seen.push({ rejoined }));
    chat.event('say').on(({ text }) => seen.push(text));
  });
  await first.stop();
  await page.waitForFunction(() => seen.includes(1012));
  await page.evaluate(() => {
    window.held = wr.channel('chat').broadcast('say', { text: 'back' });
  });
  await serve(t, ['--data-dir', dataDir, '--websocket-addr', first.address]);
  await page.evaluate(() => held);
  await page.waitForFunction(() => seen.includes('back'));
  assert.deepEqual(await page.evaluate(() => seen), [1012, { reconnected: true }, { rejoined: true }, 'back']);
  // The browser itself reports each refused attempt; nothing else may be reported.
  assert.deepEqual(complaints.filter((complaint) => !/^error: WebSocket connection to .* failed/.test(complaint)), []);
});

test('the script that the server has for a vhost connects to that vhost', async (t) => {
  const server = await serve(t);
  await arrange(server);
  const { page, complaints } = await visit(t);
  const src = `${server.httpUrl}/world/webrocket.js?v=1`;
  await page.addScriptTag({ url: src });
  assert.equal(await page.evaluate(() => $wr.url), `${server.websocketUrl}/world`);
  assert.equal(await page.evaluate(async () => (await $wr.join('chat')).state), 'joined');
  assert.deepEqual(complaints, []);
});
