#!/usr/bin/env node
// Makes webrocket.mjs (an ES module) and webrocket.js (a classic script) from src/.
//
// `node build.mjs` writes them, `node build.mjs --check` tells whether they are what would be written.
//
// The modules are put one behind the other in one scope: they import only from modules before them, by plain lists of
// names, and no name stands in two of them.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MODULES = ['errors', 'emitter', 'options', 'reconnection', 'credentials', 'requests', 'channel', 'webrocket'];
const IMPORT = /^import \{[^}]*\} from '\.\/(\w+)\.js';\n+/gm;

const read = (file) => readFileSync(new URL(file, import.meta.url), 'utf8');

function withoutImportsAndExports(name, position) {
  const source = read(`src/${name}.js`);
  for (const [, imported] of source.matchAll(IMPORT)) {
    if (!MODULES.slice(0, position).includes(imported)) throw new Error(`${name} imports ${imported} before it is there`);
  }
  return source.replace(IMPORT, '').replace(/^export /gm, '').trim();
}

/** The built files: name → content. */
export function build() {
  const { version, license } = JSON.parse(read('package.json'));
  const header = `/*! webrocket ${version} | ${license} | built from clients/javascript/src */\n`;
  const code = MODULES.map(withoutImportsAndExports).join('\n\n');
  return {
    'webrocket.mjs': `${header}\n${code}\n\nexport { WebRocket, WebRocketError, WebRocket as default };\n`,
    'webrocket.js': `${header}(function () {\n'use strict';\n\n${code}\n\nglobalThis.WebRocket = WebRocket;\n})();\n`,
  };
}

/** The built files that are not what stands in the folder. */
export function outdated() {
  return Object.entries(build()).filter(([file, content]) => {
    try {
      return read(file) !== content;
    } catch {
      return true;
    }
  }).map(([file]) => file);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--check')) {
    const stale = outdated();
    if (stale.length > 0) {
      console.error(`not built from the sources as they are: ${stale.join(', ')}; run node build.mjs`);
      process.exitCode = 1;
    }
  } else {
    for (const [file, content] of Object.entries(build())) writeFileSync(new URL(file, import.meta.url), content);
  }
}
