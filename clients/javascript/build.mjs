#!/usr/bin/env node
// Makes webrocket.mjs (an ES module) and webrocket.js (a classic script) from src/, for the npm package.
//
// The modules are put one behind the other in one scope, in the order of src/modules.txt: they import only from modules
// before them, by plain lists of names, and no name stands in two of them.
//
// The server carries webrocket.js along, which its own build makes in the same way without Node: see build.rs.

import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const IMPORT = /^import \{[^}]*\} from '\.\/(\w+)\.js';\n+/gm;

const read = (file) => readFileSync(new URL(file, import.meta.url), 'utf8');

function withoutImportsAndExports(name, position, modules) {
  const source = read(`src/${name}.js`);
  for (const [, imported] of source.matchAll(IMPORT)) {
    if (!modules.slice(0, position).includes(imported)) throw new Error(`${name} imports ${imported} before it is there`);
  }
  return source.replace(IMPORT, '').replace(/^export /gm, '').trim();
}

/** The built files: name → content. */
export function build() {
  const { version, license } = JSON.parse(read('package.json'));
  const header = `/*! webrocket ${version} | ${license} | built from clients/javascript/src */\n`;
  const code = read('src/modules.txt').trim().split('\n').map(withoutImportsAndExports).join('\n\n');
  return {
    'webrocket.mjs': `${header}\n${code}\n\nexport { WebRocket, WebRocketError, WebRocket as default };\n`,
    'webrocket.js': `${header}(function () {\n'use strict';\n\n${code}\n\nglobalThis.WebRocket = WebRocket;\n})();\n`,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [file, content] of Object.entries(build())) writeFileSync(new URL(file, import.meta.url), content);
}
