// The demo page of a `--dev` server in a real browser: what a newcomer sees first must work.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import WebSocket from 'ws';
import { PATIENCE_MS, startServer, within } from './server.mjs';

const XSS = `<img src=x onerror="window.breached = true"><script>window.breached = true</script>`;

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
});
after(() => browser?.close());

/** Runs `body` with a `--dev` server that is gone afterwards, whatever happens. */
async function withServer(body) {
  const server = await startServer({ args: ['--dev'] });
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

/**
 * A person at the demo page, in a browser context of their own, once the channel is joined.
 *
 * `complaints` gathers what must not be: console errors and warnings, uncaught exceptions, requests that leave the
 * server's origin.
 */
async function visit(t, server, name) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const complaints = [];
  const { host } = new URL(server.httpUrl);
  const watch = (url) => {
    const { protocol, host: asked } = new URL(url);
    if (protocol !== 'data:' && asked !== host) complaints.push(`request to ${url}`);
  };
  context.on('request', (request) => watch(request.url()));
  context.on('page', (page) => {
    page.setDefaultTimeout(PATIENCE_MS);
    page.on('websocket', (socket) => watch(socket.url()));
    page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
    });
  });
  const page = await context.newPage();
  await page.goto(`${server.httpUrl}/`);
  await joined(page);
  if (name) {
    await page.getByTestId('name').fill(name);
    await page.getByTestId('name').press('Enter');
  }
  return { page, context, complaints };
}

/** The send button is enabled exactly while the channel is joined. */
const joined = (page) => page.locator('[data-testid=send]:enabled').waitFor();

async function say(page, text) {
  await page.getByTestId('text').fill(text);
  await page.getByTestId('send').click();
}

async function sendRaw(page, text) {
  await page.getByTestId('raw').fill(text);
  await page.getByTestId('raw-send').click();
}

const texts = (page) => page.getByTestId('messages').locator('.text').allTextContents();
const speakers = (page) => page.getByTestId('messages').locator('.from').allTextContents();
const frames = (page, direction) => page.getByTestId('wire').locator(`.${direction} code`).allTextContents();

/** Resolves once the chat shows `count` messages. */
const shows = (page, count) =>
  page.waitForFunction((wanted) => document.querySelectorAll('#messages .text').length >= wanted, count);

/** Resolves once a frame with exactly this text stands on the wire. */
const onWire = (page, direction, text) =>
  page.waitForFunction(
    ([selector, wanted]) => [...document.querySelectorAll(selector)].some((code) => code.textContent === wanted),
    [`#wire .${direction} code`, text],
  );

test('two visitors see each other, in the same order', (t) => withServer(async (server) => {
  const ann = await visit(t, server, 'Ann');
  const ben = await visit(t, server, 'Ben');
  const rounds = 5;
  await Promise.all([ann, ben].map(async ({ page }, visitor) => {
    for (let round = 0; round < rounds; round += 1) await say(page, `${['ann', 'ben'][visitor]} ${round}`);
  }));
  await Promise.all([ann, ben].map(({ page }) => shows(page, 2 * rounds)));

  const seen = await texts(ann.page);
  assert.deepEqual(await texts(ben.page), seen);
  for (const who of ['ann', 'ben']) {
    assert.deepEqual(seen.filter((text) => text.startsWith(who)), Array.from({ length: rounds }, (_, i) => `${who} ${i}`));
  }
  assert.deepEqual(new Set(await speakers(ann.page)), new Set(['Ann', 'Ben']));
  assert.equal(await ann.page.locator('#messages .own').count(), rounds, 'the page knows its own messages');
  assert.deepEqual([...ann.complaints, ...ben.complaints], []);
}));

test('the wire shows the frames as they are, both ways', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server, 'Ann');
  await say(page, 'hello');
  await shows(page, 1);
  await onWire(page, 'received', '{"broadcasted":"lobby"}');
  assert.deepEqual(await frames(page, 'sent'), [
    '{"subscribe":{"channel":"lobby"}}',
    '{"broadcast":{"event":"message","channel":"lobby","data":{"from":"Ann","text":"hello"}}}',
  ]);
  const received = await frames(page, 'received');
  assert.equal(received[0], '{"subscribed":"lobby"}');
  const message = received.find((text) => text.startsWith('{"message":'));
  assert.match(message, /^\{"message":\{"from":"Ann","text":"hello","channel":"lobby","sid":"[0-9a-f-]{36}"\}\}$/);

  await page.getByTestId('acks').uncheck();
  assert.equal(await page.locator('#wire .ack:visible').count(), 0);
  assert.equal(await page.locator('#wire .received:visible').count(), 1);
  assert.deepEqual(complaints, []);
}));

test('any frame can be tried by hand', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server);
  await sendRaw(page, '{"fly":{"to":"the moon"}}');
  await onWire(page, 'received', '{"err":"UNDEFINED_EVENT","event":"fly"}');
  await sendRaw(page, '{"subscribe":');
  await onWire(page, 'received', '{"err":"INVALID_PAYLOAD"}');
  await sendRaw(page, '{"broadcast":{"event":"message","channel":"lobby","data":"bare"}}');
  await shows(page, 1);
  assert.deepEqual(await texts(page), ['bare']);

  // Authenticating drops the subscriptions; the page joins again by itself.
  await sendRaw(page, '{"authenticate":{"user":"manager","secret":"demo"}}');
  await onWire(page, 'received', '{"authenticated":"manager"}');
  await joined(page);
  await sendRaw(page, '{"openChannel":{"channel":"news"}}');
  await onWire(page, 'received', '{"channelOpened":"news"}');
  await say(page, 'still here');
  await shows(page, 2);

  // Who asks to be disconnected stays so until they ask otherwise.
  await sendRaw(page, '{"disconnect":true}');
  await page.locator('[data-testid=state][data-state=closed]').waitFor();
  await page.locator('#reconnect').click();
  await joined(page);
  assert.deepEqual(complaints, []);
}));

test('received text stays text', (t) => withServer(async (server) => {
  const ann = await visit(t, server, XSS.slice(0, 40));
  const ben = await visit(t, server);
  await say(ann.page, XSS);
  await shows(ben.page, 1);
  await sendRaw(ann.page, JSON.stringify({ broadcast: { event: 'message', channel: 'lobby', data: { from: XSS, text: [XSS] } } }));
  for (const { page, complaints } of [ann, ben]) {
    await shows(page, 2);
    assert.deepEqual(await texts(page), [XSS, JSON.stringify([XSS])]);
    assert.deepEqual(await speakers(page), [XSS.slice(0, 40), XSS.slice(0, 80)]);
    assert.equal(await page.locator('#messages :is(img, script), #wire :is(img, script)').count(), 0);
    assert.equal(await page.evaluate(() => window.breached), undefined);
    assert.deepEqual(complaints, []);
  }
}));

test('a second tab is somebody else, in the same channel', (t) => withServer(async (server) => {
  const { page, context, complaints } = await visit(t, server, 'The First');
  await page.getByTestId('channel').fill('orbit');
  await page.getByTestId('channel').press('Enter');
  await onWire(page, 'received', '{"subscribed":"orbit"}');
  const [second] = await Promise.all([context.waitForEvent('page'), page.getByTestId('second-tab').click()]);
  await joined(second);
  assert.notEqual(await second.getByTestId('name').inputValue(), 'The First');
  assert.equal(await second.getByTestId('channel').inputValue(), 'orbit');
  await say(second, 'hello from the second');
  await shows(page, 1);

  await page.reload();
  await joined(page);
  assert.equal(await page.getByTestId('name').inputValue(), 'The First', 'a reload keeps the name');
  assert.deepEqual(complaints, []);
}));

test('a flood leaves the page bounded, and at its end', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server);
  const socket = new WebSocket(`${server.websocketUrl}/demo`);
  t.after(() => socket.terminate());
  await within(new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject)), 'the flooding socket');
  const total = 700;
  for (let number = 1; number <= total; number += 1) {
    socket.send(JSON.stringify({ broadcast: { event: 'message', channel: 'lobby', data: { from: 'Flood', text: `${number}` } } }));
  }
  await page.locator('#messages .text', { hasText: new RegExp(`^${total}$`) }).waitFor();
  assert.equal(await page.locator('#messages > li').count(), 500);
  assert.equal(await page.locator('#wire > li').count(), 500);
  await page.waitForFunction(() => ['messages-scroll', 'wire-scroll'].every((id) => {
    const view = document.getElementById(id);
    return view.scrollHeight - view.scrollTop - view.clientHeight < 2;
  }));
  assert.deepEqual(complaints, []);
}));

test('after a restart the page comes back by itself', async (t) => {
  let server = await startServer({ args: ['--dev'] });
  t.after(() => server.stop());
  const ann = await visit(t, server, 'Ann');
  const ben = await visit(t, server, 'Ben');
  await say(ann.page, 'before');
  await Promise.all([ann, ben].map(({ page }) => shows(page, 1)));

  await server.stop();
  await Promise.all([ann, ben].map(({ page }) => page.locator('[data-testid=state][data-state=waiting]').waitFor()));
  assert.equal(await ann.page.getByTestId('send').isDisabled(), true);
  server = await startServer({ args: ['--dev', '--websocket-addr', new URL(server.httpUrl).host] });
  await Promise.all([ann, ben].map(({ page }) => joined(page)));

  await say(ben.page, 'after');
  await Promise.all([ann, ben].map(({ page }) => shows(page, 2)));
  for (const { page, complaints } of [ann, ben]) {
    assert.deepEqual(await texts(page), ['before', 'after']);
    // The browser itself reports each refused attempt; nothing else may be reported.
    assert.deepEqual(complaints.filter((complaint) => !/^error: WebSocket connection to .* failed/.test(complaint)), []);
  }
});
