// What is shipped: built from the sources as they are, usable as a script, packed whole.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

import { build, outdated } from '../build.mjs';
import WebRocket, { WebRocketError } from '../webrocket.mjs';

const folder = fileURLToPath(new URL('..', import.meta.url));
const read = (file) => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');

test('the built files are what the build makes', () => {
  assert.deepEqual(outdated(), [], 'run node build.mjs');
  assert.deepEqual(Object.keys(build()), ['webrocket.mjs', 'webrocket.js']);
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

test('the package holds what it names', () => {
  const [{ files }] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json', '--offline'], { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'] }));
  assert.deepEqual(files.map(({ path }) => path).sort(), ['README.md', 'package.json', 'webrocket.d.ts', 'webrocket.js', 'webrocket.mjs']);
  const manifest = JSON.parse(read('package.json'));
  for (const path of [manifest.main, manifest.types, manifest.unpkg]) assert.ok(files.some((file) => `./${file.path}` === path), path);
});
