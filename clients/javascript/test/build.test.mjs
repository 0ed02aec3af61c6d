// What is shipped: built from the sources as they are, usable as a script, packed whole.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

import { build } from '../build.mjs';
import WebRocket, { WebRocketError } from '../webrocket.mjs';

const folder = fileURLToPath(new URL('..', import.meta.url));
const read = (file) => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');

test('what is tested here is built from the sources as they are', () => {
  const built = build();
  assert.deepEqual(Object.keys(built), ['webrocket.mjs', 'webrocket.js']);
  for (const [file, content] of Object.entries(built)) assert.equal(read(file), content, `${file}: run npm run build`);
});

test('the module exports the client and its error', () => {
  assert.equal(WebRocket.name, 'WebRocket');
  assert.equal(WebRocket.Error, WebRocketError);
});

/** Runs a script as a page would that has loaded it from `src`, and returns the page's globals. */
function load(script, src) {
  const opened = [];
  class WebSocket {
    constructor(url, protocols) {
      opened.push([url, protocols]);
    }
  }
  const page = vm.createContext({ URL, WebSocket, setTimeout: () => 0, clearTimeout() {}, document: { currentScript: { src } } });
  const before = Object.keys(page);
  vm.runInContext(script, page);
  return { page, opened, added: Object.keys(page).filter((name) => !before.includes(name)) };
}

test('the script defines one global', () => {
  const { added, page, opened } = load(read('webrocket.js'), 'http://h/webrocket.js');
  assert.deepEqual(added, ['WebRocket']);
  assert.equal(page.WebRocket.name, 'WebRocket');
  assert.deepEqual(opened, []);
});

test('the preconfigured script connects to the vhost that it came from', () => {
  const script = read('webrocket.js') + read('preconfigured.js');
  for (const [src, url] of [
    ['http://h:9772/world/webrocket.js', 'ws://h:9772/world'],
    ['https://h/a/b/webrocket.js?v=a/b#c', 'wss://h/a/b'],
  ]) {
    const { added, page, opened } = load(script, src);
    assert.deepEqual(added, ['WebRocket', '$wr']);
    assert.equal(page.$wr.url, url);
    assert.equal(opened.length, 1);
    assert.equal(opened[0][0], url);
  }
  assert.equal(read('preconfigured.js').trim().split('\n').length, 1);
});

test('the package holds what it names', (t) => {
  const manifest = JSON.parse(read('package.json'));
  const named = [manifest.main, manifest.types, manifest.unpkg];
  for (const file of named) assert.ok(manifest.files.includes(path.basename(file)), file);
  assert.equal(manifest.scripts.prepack, manifest.scripts.build, 'it is built before it is packed');

  // This Node's own npm, wherever it is; some come without.
  const env = { ...process.env, PATH: `${path.dirname(process.execPath)}${path.delimiter}${process.env.PATH}` };
  const options = { cwd: folder, env, encoding: 'utf8' };
  // Without scripts, whose output would stand before the JSON; what they make is there.
  const pack = ['pack', '--dry-run', '--json', '--offline', '--ignore-scripts'];
  const { error, status, stdout, stderr } = spawnSync('npm', pack, options);
  if (error?.code === 'ENOENT') {
    t.skip('there is no npm');
    return;
  }
  assert.equal(status, 0, stderr);
  const [{ files }] = JSON.parse(stdout);
  assert.deepEqual(files.map((file) => file.path).sort(), ['README.md', 'package.json', 'webrocket.d.ts', 'webrocket.js', 'webrocket.mjs']);
});
