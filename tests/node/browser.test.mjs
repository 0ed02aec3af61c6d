// The demo page of a `--dev` server in a real browser: what a newcomer sees first must work.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { PATIENCE_MS, within } from './awaiting.mjs';
import { launch } from './chromium.mjs';
import { ownHost, startServer } from './server.mjs';

const XSS = `<img src=x onerror="window.breached = true"><script>window.breached = true</script>`;

let browser;
before(async () => { browser = await launch(); });
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
 * A person at the demo page, in a browser context of their own, once they are in the lobby. Under a name of their own,
 * nobody else may be listed.
 *
 * `complaints` gathers what must not be: console errors and warnings, uncaught exceptions, requests that leave the
 * server's origin.
 */
async function visit(t, server, name, options) {
  const context = await browser.newContext(options);
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
  if (name) await takeName(page, name);
  return { page, context, complaints };
}

/** Resolves once the room that is shown is joined, and no other one that is open is being joined still. */
const joined = (page) =>
  page.locator('body:not(:has([role=tab][data-state=joining])) [data-testid=send]:enabled').waitFor();

async function fillIn(page, field, text) {
  await page.getByTestId(field).fill(text);
  await page.getByTestId(field).press('Enter');
}

/**
 * Resolves once the page is in its rooms again. A new name is a new authentication, which ends all subscriptions: what
 * others say before that is not for this page.
 */
async function takeName(page, name) {
  await fillIn(page, 'name', name);
  await page.locator('#people .who').filter({ hasText: exactly(`${name} you`) }).waitFor();
  await joined(page);
}

async function say(page, text) {
  await page.getByTestId('text').fill(text);
  await page.getByTestId('send').click();
}

async function sendRaw(page, text) {
  await page.getByTestId('raw').fill(text);
  await page.getByTestId('raw-send').click();
}

async function openPrivateRoom(page) {
  await page.getByTestId('private-tab').click();
  await page.getByTestId('open-private').click();
  await joined(page);
}

const texts = (page, room = 'lobby') => page.getByTestId(room).locator('.text').allTextContents();
const speakers = (page) => page.getByTestId('lobby').locator('.from').allTextContents();
const notes = (page, room = 'lobby') => page.getByTestId(room).locator('.note').allTextContents();
const frames = (page, direction) => page.getByTestId('wire').locator(`.${direction} code`).allTextContents();
const nameOf = (page) => page.getByTestId('name').inputValue();
const state = (page, name) => page.locator(`[data-testid=state][data-state=${name}]`).waitFor();

/** Resolves once the room shows `count` messages. */
const shows = (page, count, room = 'lobby') =>
  page.waitForFunction(([id, wanted]) => document.querySelectorAll(`#${id} .text`).length >= wanted, [room, count]);

/** Resolves once the room has a note with exactly this text. */
const noted = (page, text, room = 'lobby') =>
  page.getByTestId(room).locator('.note').getByText(text, { exact: true }).first().waitFor({ state: 'attached' });

/** Resolves once a frame with exactly this text, or one that matches, stands on the wire. */
const onWire = (page, direction, text) =>
  page.locator(`#wire .${direction} code`).filter({ hasText: exactly(text) }).first().waitFor({ state: 'attached' });
const exactly = (text) => (text instanceof RegExp ? text : new RegExp(`^${text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')}$`));

/** In the page: who is listed, each as `name`, `name you`, `name: status` or all of it; or whether it is as `wanted`. */
function listed(wanted) {
  const entries = [...document.querySelectorAll('#people li:not(.nobody, .more)')].map((entry) => {
    const status = entry.querySelector('.status');
    return entry.querySelector('.who').textContent + (status ? `: ${status.textContent}` : '');
  });
  return wanted === undefined ? entries : JSON.stringify(entries) === JSON.stringify(wanted);
}

/** Resolves once exactly these people are listed. */
async function sees(page, ...wanted) {
  try {
    await page.waitForFunction(listed, wanted);
  } catch (error) {
    assert.deepEqual(await page.evaluate(listed), wanted, error.message);
  }
}

const credentialsOf = async (server) => {
  const { token } = JSON.parse(await server.ctl('--json', 'vhost', 'show', '/demo'));
  return `Basic ${Buffer.from(`wr:${token}`).toString('base64')}`;
};

test('two visitors see each other, in the same order', (t) => withServer(async (server) => {
  const ann = await visit(t, server, 'Ann');
  const ben = await visit(t, server);
  await takeName(ben.page, 'Ben');
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
  assert.equal(await ann.page.locator('#lobby .own').count(), rounds, 'the page knows its own messages');
  assert.deepEqual([...ann.complaints, ...ben.complaints], []);
}));

test('the wire shows the frames as they are, both ways', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server);
  const name = await nameOf(page);
  await sees(page, `${name} you`);
  await say(page, 'hello');
  await onWire(page, 'received', /^\{":ok":\{"code":204,"status":"Broadcasted","ref":\d+\}\}$/);
  await shows(page, 1);

  const sent = await frames(page, 'sent');
  assert.match(sent[0], /^\{"auth":\{"token":"[0-9a-f]{128}","ref":\d+\}\}$/);
  assert.match(sent[1], /^\{"subscribe":\{"channel":"presence-lobby","data":\{\},"hidden":false,"ref":\d+\}\}$/);
  assert.match(sent[2], /^\{"subscribe":\{"channel":"lobby","ref":\d+\}\}$/);
  const broadcast = `{"broadcast":{"channel":"lobby","event":"message","data":{"from":"${name}","text":"hello"},"ref":`;
  assert.ok(sent[3].startsWith(broadcast), sent[3]);
  assert.equal(sent.length, 4);

  const received = await frames(page, 'received');
  assert.match(received[0], /^\{":connected":\{"sid":"[0-9a-f-]{36}"\}\}$/);
  const { sid } = JSON.parse(received[0])[':connected'];
  assert.ok(received.includes(`{"message":{"from":"${name}","text":"hello","channel":"lobby","sid":"${sid}"}}`));
  assert.ok(received.includes(`{":memberJoined":{"uid":"${name}","channel":"presence-lobby"}}`));

  await page.getByTestId('acks').uncheck();
  assert.equal(await page.locator('#wire .ack:visible').count(), 0);
  assert.equal(await page.locator('#wire .received:visible').count(), 2, 'what is no answer stays');
  assert.deepEqual(complaints, []);
}));

test('any frame can be tried by hand', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server);
  await sendRaw(page, '{"fly":{"to":"the moon"}}');
  await onWire(page, 'err', '{":error":{"code":400,"status":"Bad request"}}');
  await sendRaw(page, '{"openChannel":{"channel":"news"}}');
  await onWire(page, 'err', '{":error":{"code":403,"status":"Forbidden"}}');
  await sendRaw(page, '{"broadcast":{"event":"message","channel":"lobby","data":"bare","ref":"mine"}}');
  await onWire(page, 'received', '{":ok":{"code":204,"status":"Broadcasted","ref":"mine"}}');
  await shows(page, 1);
  assert.deepEqual(await texts(page), ['bare']);

  // Authenticating drops the subscriptions; the page joins again by itself.
  await sendRaw(page, '{"auth":{"user":"manager","secret":"demo"}}');
  await sees(page, 'manager you');
  await sendRaw(page, '{"openChannel":{"channel":"news"}}');
  await onWire(page, 'received', '{":channelOpened":{"channel":"news"}}');
  await joined(page);
  await say(page, 'still here');
  await shows(page, 2);

  // A session that was closed by hand is followed by a new one, with the page's own name.
  await sendRaw(page, '{"close":{}}');
  await noted(page, 'Back in “lobby”');
  await sees(page, `${await nameOf(page)} you`);
  await say(page, 'again');
  await shows(page, 3);
  assert.deepEqual(complaints, []);
}));

test('received text stays text', (t) => withServer(async (server) => {
  const ann = await visit(t, server);
  const ben = await visit(t, server);
  const former = await nameOf(ann.page);
  await takeName(ben.page, 'Ben');
  await sees(ben.page, 'Ben you', former);
  await takeName(ann.page, XSS.slice(0, 40));
  await fillIn(ann.page, 'status', XSS.slice(0, 60));
  await noted(ben.page, `${former} is now called ${XSS.slice(0, 40)}`);
  await sees(ben.page, 'Ben you', `${XSS.slice(0, 40)}: ${XSS.slice(0, 60)}`);
  await say(ann.page, XSS);
  await shows(ben.page, 1);
  await sendRaw(ann.page, JSON.stringify({ broadcast: { event: 'message', channel: 'lobby', data: { from: XSS, text: [XSS] } } }));
  for (const { page, complaints } of [ann, ben]) {
    await shows(page, 2);
    assert.deepEqual(await texts(page), [XSS, JSON.stringify([XSS])]);
    assert.deepEqual(await speakers(page), [XSS.slice(0, 40), XSS.slice(0, 80)]);
    assert.equal(await page.locator('ol :is(img, script), ul :is(img, script), pre :is(img, script)').count(), 0);
    assert.equal(await page.evaluate(() => window.breached), undefined);
    assert.deepEqual(complaints, []);
  }
}));

test('everybody sees who comes, who goes and what they are up to', (t) => withServer(async (server) => {
  const ann = await visit(t, server, 'Ann');
  const ben = await visit(t, server);
  const first = await nameOf(ben.page);
  await noted(ann.page, `${first} is here`);
  await takeName(ben.page, 'Ben');
  await noted(ann.page, `${first} is now called Ben`);
  await sees(ann.page, 'Ann you', 'Ben');
  await sees(ben.page, 'Ben you', 'Ann');

  await fillIn(ann.page, 'status', 'On the pad');
  await sees(ben.page, 'Ben you', 'Ann: On the pad');
  await sees(ann.page, 'Ann you: On the pad', 'Ben');
  assert.deepEqual(await notes(ben.page), [], 'a new status is no farewell');

  const cleo = await visit(t, server);
  const third = await nameOf(cleo.page);
  await sees(cleo.page, `${third} you`, 'Ann: On the pad', 'Ben');
  await noted(ann.page, `${third} is here`);
  await cleo.context.close();
  await noted(ann.page, `${third} has left`);
  await sees(ann.page, 'Ann you: On the pad', 'Ben');
  assert.equal(await ann.page.getByTestId('count').textContent(), '2');
  assert.deepEqual([...ann.complaints, ...ben.complaints, ...cleo.complaints], []);
}));

test('who is hidden sees the others and is not seen', (t) => withServer(async (server) => {
  const ann = await visit(t, server, 'Ann');
  const ben = await visit(t, server);
  await takeName(ben.page, 'Ben');
  await sees(ann.page, 'Ann you', 'Ben');

  await ben.page.getByTestId('hidden').check();
  await noted(ann.page, 'Ben has left');
  await sees(ann.page, 'Ann you');
  await sees(ben.page, 'Ben you, hidden', 'Ann');
  assert.equal(await ben.page.getByTestId('count').textContent(), '1');
  await fillIn(ben.page, 'status', 'Sneaking');
  await say(ben.page, 'Guess who');
  await shows(ann.page, 1);
  await sees(ann.page, 'Ann you');

  await ben.page.getByTestId('hidden').uncheck();
  await noted(ann.page, 'Ben is here: Sneaking');
  await sees(ann.page, 'Ann you', 'Ben: Sneaking');
  assert.deepEqual([...ann.complaints, ...ben.complaints], []);
}));

test('the private room is for those who have opened it', (t) => withServer(async (server) => {
  const ann = await visit(t, server, 'Ann');
  const ben = await visit(t, server);
  await takeName(ben.page, 'Ben');
  await sees(ann.page, 'Ann you', 'Ben');
  const told = await notes(ann.page);

  await ann.page.getByTestId('private-tab').click();
  assert.equal(await ann.page.getByTestId('text').isDisabled(), true, 'not opened yet');
  await ann.page.getByTestId('open-private').click();
  await noted(ann.page, 'You are in “private-room” as Ann. Others hear you once they have opened it too.', 'private');
  await joined(ann.page);
  await say(ann.page, 'is anybody there?');
  await shows(ann.page, 1, 'private');

  await openPrivateRoom(ben.page);
  await ben.page.getByTestId('lobby-tab').click();
  await say(ann.page, 'between us');
  await ben.page.getByTestId('private-tab').locator('.number-badge', { hasText: /^1$/ }).waitFor();
  await ben.page.getByTestId('private-tab').click();
  assert.deepEqual(await texts(ben.page, 'private'), ['between us']);
  assert.equal(await ben.page.getByTestId('private-tab').locator('.number-badge:visible').count(), 0);
  await say(ben.page, 'indeed');
  await shows(ann.page, 3, 'private');
  for (const { page, complaints } of [ann, ben]) {
    assert.deepEqual(await texts(page, 'lobby'), []);
    assert.deepEqual(await notes(page), page === ann.page ? told : [], 'a new token is no farewell');
    assert.deepEqual(complaints, []);
  }
}));

test('the request that is shown for backends works', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server);
  await takeName(page, "O'Neil & Söhne");
  await sees(page, "O'Neil & Söhne you");
  const line = await page.getByTestId('curl').textContent();
  const [, user, address] = line.match(/^curl -u '([^']*)' '([^']*)'$/);
  assert.equal(user, 'wr:<vhost access token>');
  const response = await fetch(address, { headers: { Authorization: await credentialsOf(server) } });
  const { token } = await response.json();

  const socket = new WebSocket(`${server.websocketUrl}/demo`, 'wwfp');
  t.after(() => socket.terminate());
  const heard = [];
  const joins = new Promise((resolve) => socket.on('message', (data) => {
    heard.push(String(data));
    if (heard.length === 3) resolve();
  }));
  await within(once(socket, 'open'), 'the socket');
  socket.send(JSON.stringify({ auth: { token } }));
  socket.send('{"subscribe":{"channel":"private-room"}}');
  await within(joins, 'the answers');
  assert.deepEqual(heard.slice(1), [
    '{":authenticated":{}}',
    `{":subscribed":{"channel":"private-room","uid":"O'Neil & Söhne"}}`,
  ]);
  assert.deepEqual(complaints, []);
}));

test('another site gets no token', (t) => withServer(async (server) => {
  const site = http.createServer((_, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html' });
    response.end('<!doctype html><link rel=icon href="data:,">');
  }).listen(0, '127.0.0.1');
  t.after(() => site.close());
  await once(site, 'listening');
  const page = await browser.newPage();
  t.after(() => page.close());
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  const address = `${server.httpUrl}/dev/token?uid=mallory`;
  const [response] = await Promise.all([
    page.waitForResponse(address),
    page.evaluate((url) => fetch(url, { mode: 'no-cors' }).then(() => {}), address),
  ]);
  assert.equal(response.status(), 403);
}));

test('a second tab is somebody else', (t) => withServer(async (server) => {
  const { page, context, complaints } = await visit(t, server, 'The First');
  await fillIn(page, 'status', 'here first');
  const [second] = await Promise.all([context.waitForEvent('page'), page.getByTestId('second-tab').click()]);
  await joined(second);
  const name = await nameOf(second);
  assert.notEqual(name, 'The First');
  await sees(second, `${name} you`, 'The First: here first');
  await say(second, 'hello from the second');
  await shows(page, 1);
  assert.equal(await page.locator('#lobby .own').count(), 0);

  await page.reload();
  await joined(page);
  await sees(page, 'The First you: here first', name);
  assert.equal(await nameOf(page), 'The First', 'a reload keeps the name');
  assert.deepEqual(complaints, []);
}));

test('the keyboard is enough', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server, 'Ann');
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  const focused = () => page.evaluate(() => document.activeElement.id);
  assert.equal(await focused(), 'text', 'naming oneself leads on to the message');
  await page.keyboard.type('typed');
  await press('Enter');
  await shows(page, 1);

  await page.locator('#lobby-tab').focus();
  await press('ArrowRight');
  assert.equal(await focused(), 'private-tab');
  await press('Tab');
  assert.equal(await focused(), 'open-private');
  await press('Enter');
  await joined(page);
  assert.equal(await focused(), 'text', 'opening the room leads on to the message');
  await page.keyboard.type('typed, too');
  await press('Enter');
  await shows(page, 1, 'private');

  await page.locator('#status').focus();
  await press('Tab');
  assert.equal(await focused(), 'hidden');
  await press('Space');
  await sees(page, 'Ann you, hidden');
  await page.locator('#raw').focus();
  await page.keyboard.type('{"fly":1}');
  await press('Enter');
  await onWire(page, 'err', '{":error":{"code":400,"status":"Bad request"}}');

  const nameless = await page.locator(':is(button, input, select, textarea, a, [tabindex="0"])').evaluateAll((controls) =>
    controls.filter((control) => !(control.labels?.length || control.textContent.trim() || control.ariaLabel)).map(({ id }) => id));
  assert.deepEqual(nameless, [], 'every control has a name');
  assert.deepEqual(complaints, []);
}));

test('a phone shows it all without scrolling sideways', (t) => withServer(async (server) => {
  for (const colorScheme of ['light', 'dark']) {
    const { page, complaints } = await visit(t, server, `Phone, ${colorScheme}`, { viewport: { width: 360, height: 740 }, colorScheme });
    await say(page, 'x'.repeat(300));
    await openPrivateRoom(page);
    const { scrolled, width } = await page.evaluate(() => ({
      scrolled: document.documentElement.scrollWidth, width: document.documentElement.clientWidth,
    }));
    assert.equal(scrolled, width, colorScheme);
    assert.deepEqual(complaints, []);
    await page.context().close();
  }
}));

test('a flood leaves the page bounded, and at its end', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server);
  // In the classic dialect, as the page's footer says.
  const socket = new WebSocket(`${server.websocketUrl}/demo`);
  t.after(() => socket.terminate());
  await within(once(socket, 'open'), 'the flooding socket');
  const total = 700;
  for (let number = 1; number <= total; number += 1) {
    socket.send(JSON.stringify({ broadcast: { event: 'message', channel: 'lobby', data: { from: 'Flood', text: `${number}` } } }));
  }
  await page.locator('#lobby .text', { hasText: new RegExp(`^${total}$`) }).waitFor();
  assert.equal(await page.locator('#lobby > li').count(), 500);
  assert.equal(await page.locator('#wire > li').count(), 500);
  await page.waitForFunction(() => ['lobby-scroll', 'wire-scroll'].every((id) => {
    const view = document.getElementById(id);
    return view.scrollHeight - view.scrollTop - view.clientHeight < 2;
  }));
  assert.deepEqual(complaints, []);
}));

test('what the server does from outside is told', (t) => withServer(async (server) => {
  const { page, complaints } = await visit(t, server, 'Ann');
  const { sid } = JSON.parse((await frames(page, 'received'))[0])[':connected'];
  const headers = { Authorization: await credentialsOf(server) };
  const sent = await fetch(`${server.httpUrl}/demo/sessions/${sid}/events`, {
    method: 'POST', headers, body: JSON.stringify({ event: 'order', data: { ready: true } }),
  });
  assert.equal(sent.status, 202);
  await noted(page, 'A direct message, “order”: {"ready":true}');

  await server.ctl('channel', 'remove', '/demo', 'lobby');
  await noted(page, 'You are no longer in “lobby”: it was closed, or left by hand');
  assert.equal(await page.getByTestId('send').isDisabled(), true);
  await page.getByTestId('rejoin').click();
  await noted(page, 'Could not join “lobby”: Channel not found');
  await server.ctl('channel', 'add', '/demo', 'lobby');
  await page.getByTestId('rejoin').click();
  await joined(page);
  await say(page, 'back');
  await shows(page, 1);
  assert.deepEqual(complaints, []);
}));

test('after a restart the page comes back by itself', async (t) => {
  let server = await startServer({ args: ['--dev', '--websocket-addr', `${ownHost()}:0`] });
  t.after(() => server.stop());
  const ann = await visit(t, server, 'Ann');
  await fillIn(ann.page, 'status', 'steady');
  const ben = await visit(t, server);
  await takeName(ben.page, 'Ben');
  for (const { page } of [ann, ben]) {
    await say(page, `${await nameOf(page)} before`);
    await openPrivateRoom(page);
  }
  await say(ben.page, 'secret before');
  await Promise.all([ann, ben].map(({ page }) => shows(page, 1, 'private')));
  await ann.page.getByTestId('lobby-tab').click();
  await shows(ann.page, 2);

  await server.stop();
  await Promise.all([ann, ben].map(({ page }) => state(page, 'waiting')));
  await ann.page.getByTestId('countdown').getByText(/^(next attempt in \d+ s|trying…)$/).waitFor();
  assert.equal(await ann.page.getByTestId('send').isDisabled(), true);
  assert.equal(await ann.page.getByTestId('raw-send').isDisabled(), true);
  server = await startServer({ args: ['--dev', '--websocket-addr', server.address] });
  // The button itself, which is hidden if the page is back already.
  await ben.page.evaluate(() => document.getElementById('reconnect').click());
  for (const { page } of [ann, ben]) {
    await state(page, 'open');
    await joined(page);
    await noted(page, 'Back in “lobby”');
    await noted(page, 'Back in “private-room”', 'private');
    await page.locator('#people:not(.stale)').waitFor();
  }
  await sees(ann.page, 'Ann you: steady', 'Ben');
  await sees(ben.page, 'Ben you', 'Ann: steady');

  await say(ann.page, 'Ann after');
  await shows(ann.page, 3);
  await say(ben.page, 'secret after');
  await shows(ann.page, 2, 'private');
  await shows(ben.page, 3);
  for (const { page, complaints } of [ann, ben]) {
    assert.deepEqual(await texts(page), ['Ann before', 'Ben before', 'Ann after'], 'what was said is kept');
    assert.deepEqual(await texts(page, 'private'), ['secret before', 'secret after']);
    assert.equal(await page.getByTestId('countdown').textContent(), '');
    // The browser itself reports each refused attempt; nothing else may be reported.
    assert.deepEqual(complaints.filter((complaint) => !/^error: WebSocket connection to .* failed/.test(complaint)), []);
  }
});
