// One webrocket-server process for a test, and webrocket-ctl to arrange it.
//
// The binaries are taken from the folder in WEBROCKET_BIN (`cargo xtask test` sets it), else from target/debug.
// Every server listens on free ports of the loopback and owns a data directory that dies with it.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { PATIENCE_MS, within } from './awaiting.mjs';

const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const binaries = process.env.WEBROCKET_BIN ?? path.join(repository, 'target', 'debug');
const execFileAsync = promisify(execFile);

/** The secret of every user that has one. */
export const SECRET = '53cr37';

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A loopback address that hardly anybody else has, so that nobody takes a server's ports while it is down. */
export const ownHost = () => `127.${100 + randomInt(100)}.${randomInt(256)}.${randomInt(256)}`;

/**
 * Starts a server and resolves once it has said that it is ready.
 *
 * `args` are options for its command line; they take the place of the defaults here.
 * `websocketUrl` and `httpUrl` are the same port in two spellings, without a vhost path.
 * `ctl(...args)` runs webrocket-ctl against it and resolves to what it printed; `post(resource, body)` asks its control
 * API. `stop(signal)` asks it to end, once, and fails unless it ends well; SIGKILL ends it anyhow.
 */
export async function startServer({ args = [], shards = 2, io = 'auto' } = {}) {
  const ownDir = mkdtempSync(path.join(tmpdir(), 'webrocket-node-'));
  const dataDir = args.includes('--data-dir') ? args[args.indexOf('--data-dir') + 1] : ownDir;
  const defaults = {
    '--websocket-addr': '127.0.0.1:0', '--control-addr': '127.0.0.1:0',
    '--exchange-addr': '127.0.0.1:0', '--stream-addr': '127.0.0.1:0',
    '--data-dir': dataDir, '--node-name': 'test', '--shards': String(shards), '--io': io,
    '--log-format': 'json', '--log-level': 'info',
  };
  const child = spawn(
    path.join(binaries, 'webrocket-server'),
    [...Object.entries(defaults).filter(([option]) => !args.includes(option)).flat(), ...args],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  running.add(child);
  const log = [];
  const exited = new Promise((resolve) => {
    child.once('error', (error) => {
      log.push(String(error));
      resolve([null, null]);
    });
    child.once('close', (code, signal) => resolve([code, signal]));
  });
  exited.then(() => running.delete(child));

  const ready = new Promise((resolve) => {
    readline.createInterface({ input: child.stderr }).on('line', (line) => {
      log.push(line);
      const fields = fieldsOf(line);
      if (fields?.message === 'ready') resolve(fields);
    });
  });

  let ending;
  const stop = (signal = 'SIGTERM') => (ending ??= end(signal));

  async function end(asked) {
    child.kill(asked);
    try {
      const [code, signal] = await within(exited, `the server to stop on ${asked}`);
      assert.ok(code === 0 || asked === 'SIGKILL', `exit code ${code}, ${signal}:\n${log.slice(-20).join('\n')}`);
      assert.deepEqual(log.filter((line) => line.includes('panicked')), []);
    } finally {
      child.kill('SIGKILL');
      rmSync(ownDir, { recursive: true, force: true });
    }
  }

  const failed = exited.then(() => {
    throw new Error(`the server ended before it was ready:\n${log.join('\n')}`);
  });
  failed.catch(() => {}); // Once it is ready, its end is no failure.
  let fields;
  try {
    fields = await within(Promise.race([ready, failed]), 'the ready line');
  } catch (error) {
    await stop().catch(() => {});
    throw error;
  }

  const cookieFile = path.join(dataDir, 'test.cookie');
  async function ctl(...command) {
    const { stdout } = await execFileAsync(path.join(binaries, 'webrocket-ctl'), [
      '--control-url', `http://${fields.control}`,
      '--cookie-file', cookieFile,
      ...command,
    ], { timeout: PATIENCE_MS });
    return stdout;
  }

  async function post(resource, body) {
    const response = await fetch(`http://${fields.control}${resource}`, {
      method: 'POST',
      headers: { 'X-WebRocket-Cookie': readFileSync(cookieFile, 'utf8').trim(), 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    assert.ok(response.ok, `${resource}: ${response.status} ${await response.clone().text()}`);
    return response.json();
  }

  return {
    websocketUrl: `ws://${fields.websocket}`,
    httpUrl: `http://${fields.websocket}`,
    address: fields.websocket,
    pid: child.pid,
    log,
    ctl,
    post,
    stop,
  };
}

/** A server with the vhost /test: joe, who has all rights and a secret, guest, who reads and writes, and reader. */
export async function startFurnishedServer(options) {
  const server = await startServer(options);
  await server.ctl('vhost', 'add', '/test');
  await server.ctl('user', 'add', '/test', 'joe', '--secret', SECRET, '--rights', 'read,write,manage');
  await server.ctl('user', 'add', '/test', 'guest', '--rights', 'read,write');
  await server.ctl('user', 'add', '/test', 'reader', '--rights', 'read');
  return server;
}

function fieldsOf(line) {
  try {
    return JSON.parse(line).fields;
  } catch {
    return undefined;
  }
}
