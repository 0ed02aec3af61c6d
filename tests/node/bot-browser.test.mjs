// The demo with a backend: from a browser to a worker and back, started by the README's own line.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import readline from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PATIENCE_MS, within } from './awaiting.mjs';
import { launch } from './chromium.mjs';
import { startServer } from './server.mjs';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const startsBot = readme.split('\n').find((line) => line.startsWith('    ') && line.includes('examples/bot.py')).trim();

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

async function visit(server) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(`${server.httpUrl}/`);
  await page.locator('[data-testid=send]:enabled').waitFor();
  await page.locator('#people .tag').waitFor();  // Authenticated, without which nobody triggers.
  return page;
}

async function say(page, text) {
  await page.getByTestId('text').fill(text);
  await page.getByTestId('send').click();
}

const texts = (page) => page.locator('#lobby .text').allTextContents();
const onWire = (page, direction, text) =>
  page.locator(`#wire .${direction} code`).filter({ hasText: text }).first().waitFor({ state: 'attached' });

/** Runs the README's line, on this server and without building anything, and resolves once the bot waits for commands. */
async function startBot(t, server) {
  const asksForToken = 'cargo run -qr --bin webrocket-ctl -- vhost show /demo';
  assert.ok(startsBot.includes(asksForToken), startsBot);
  const shown = await server.ctl('vhost', 'show', '/demo');
  const line = `exec env ${startsBot.replace(asksForToken, 'printf %s "$SHOWN"')} ${server.address}`;
  const bot = spawn('sh', ['-c', line], {
    cwd: repository, env: { ...process.env, SHOWN: shown }, stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => bot.kill('SIGKILL'));
  const [said] = await within(once(readline.createInterface({ input: bot.stdout }), 'line'), 'the bot');
  assert.match(said, /^waiting for commands/);
  return bot;
}

test('what begins with a slash is answered by a worker, for everybody', async (t) => {
  const server = await startServer({ args: ['--dev'] });
  t.after(() => server.stop());
  const [ann, ben] = [await visit(server), await visit(server)];

  await say(ann, '/weather Mars');
  await ann.locator('#lobby .note').getByText('examples/bot.py').waitFor();
  await onWire(ann, 'err', '"code":503');
  assert.deepEqual(await texts(ann), [], 'nothing was broadcast');

  const bot = await startBot(t, server);
  const orders = () => ann.evaluate(() => $wr.trigger('order', { item: 'fuel' }).then(() => true, () => false));
  while (!await within(orders(), 'an answer')) { /* The bot is still connecting. */ }
  await ann.locator('#lobby .note').getByText('“ordered”: {"item":"fuel"').first().waitFor();

  await say(ann, '/weather Mars');
  await onWire(ann, 'sent', '"text":"/weather Mars"},"trigger":"command","ref":');
  for (const page of [ann, ben]) {
    await page.waitForFunction(() => document.querySelectorAll('#lobby .text').length === 2);
    const [asked, answered] = await texts(page);
    assert.equal(asked, '/weather Mars');
    assert.match(answered, /^Mars: .+ °C$/);
    assert.equal(await page.locator('#lobby .from').last().textContent(), 'Kosmonaut');
  }

  bot.kill('SIGTERM');
  assert.deepEqual(await within(once(bot, 'exit'), 'the end of the bot'), [0, null]);
});
