// The README's quick start, as pasted: its commands, its page in two tabs, its requests of a backend.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { PATIENCE_MS } from './awaiting.mjs';
import { launch } from './chromium.mjs';
import { startServer } from './server.mjs';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const session = readme.slice(readme.indexOf('## A first session'), readme.indexOf('- **The protocol**'));
/** The indented blocks, without their indentation. */
const blocks = session.split(/\n\n/).filter((part) => part.startsWith('    '))
  .map((block) => block.replace(/^ {4}/gm, ''));
const blockWith = (text) => blocks.find((block) => block.includes(text));

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

test('the quick start works as it is pasted', async (t) => {
  const server = await startServer();
  t.after(() => server.stop());
  const commands = blockWith('webrocket-ctl').trim().split('\n').filter((line) => line.includes('webrocket-ctl'));
  let printed = '';
  for (const line of commands) printed += await server.ctl(...line.split(' ').slice(1));
  const accessToken = /\b[0-9a-f]{40}\b/.exec(printed)?.[0];
  assert.ok(accessToken, printed);

  const html = blockWith('webrocket.js').replaceAll('http://127.0.0.1:9772', server.httpUrl);
  assert.ok(html.split('\n').length <= 10, 'ten lines');
  const pages = createServer((request, response) => response.setHeader('Content-Type', 'text/html').end(html));
  await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
  t.after(() => pages.close());
  const tabs = [];
  for (let tab = 0; tab < 2; tab += 1) {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    await page.goto(`http://127.0.0.1:${pages.address().port}/`);
    await page.waitForFunction(() => $wr.channel('news').state === 'joined');
    tabs.push(page);
  }
  await tabs[0].fill('#text', 'Hi there');
  await tabs[0].press('#text', 'Enter');
  for (const tab of tabs) await tab.getByText('Hi there').waitFor();
  await tabs[0].waitForFunction(() => document.querySelector('#text').value === '');

  const [, ...requests] = blockWith('curl').trim().split('\n');
  const script = requests.join('\n').replaceAll('http://127.0.0.1:9772', server.httpUrl);
  const { stdout } = await promisify(execFile)('sh', ['-c', script.replaceAll('curl ', 'curl -sS --fail ')], {
    env: { ...process.env, TOKEN: accessToken }, timeout: PATIENCE_MS,
  });
  for (const tab of tabs) await tab.getByText('Hello').waitFor();
  assert.match(stdout, /\{"token":"[0-9a-f]{128}"\}/);
});
