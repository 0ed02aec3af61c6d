// One webrocket-server process for a test, and webrocket-ctl to arrange it.
//
// The binaries are taken from the folder in WEBROCKET_BIN (`cargo xtask test` sets it), else from target/debug.
// Every server listens on free ports of the loopback and owns a data directory that dies with it.

import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const repository = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const binaries = process.env.WEBROCKET_BIN ?? path.join(repository, 'target', 'debug');
const execFileAsync = promisify(execFile);

/** Bound of every wait in these tests: reached only when something is broken. */
export const PATIENCE_MS = 20_000;

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Rejects with `what` if `promise` has not settled within `PATIENCE_MS`. */
export async function within(promise, what) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`gave up waiting for ${what}`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, expired]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Starts a server and resolves once it has said that it is ready.
 *
 * `args` are options for its command line; they take the place of the defaults here.
 * `websocketUrl` and `httpUrl` are the same port in two spellings, without a vhost path.
 * `ctl(...args)` runs webrocket-ctl against it and resolves to what it printed.
 */
export async function startServer({ args = [], shards = 2, io = 'auto' } = {}) {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'webrocket-node-'));
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
      resolve();
    });
    child.once('close', resolve);
  }).then(() => running.delete(child));

  const ready = new Promise((resolve) => {
    readline.createInterface({ input: child.stderr }).on('line', (line) => {
      log.push(line);
      const fields = fieldsOf(line);
      if (fields?.message === 'ready') resolve(fields);
    });
  });

  async function stop() {
    child.kill('SIGTERM');
    try {
      await within(exited, 'the server to stop on SIGTERM');
    } finally {
      child.kill('SIGKILL');
      rmSync(dataDir, { recursive: true, force: true });
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

  async function ctl(...command) {
    const { stdout } = await execFileAsync(path.join(binaries, 'webrocket-ctl'), [
      '--control-url', `http://${fields.control}`,
      '--cookie-file', path.join(dataDir, 'test.cookie'),
      ...command,
    ]);
    return stdout;
  }

  return {
    websocketUrl: `ws://${fields.websocket}`,
    httpUrl: `http://${fields.websocket}`,
    controlUrl: `http://${fields.control}`,
    pid: child.pid,
    log,
    ctl,
    stop,
  };
}

function fieldsOf(line) {
  try {
    return JSON.parse(line).fields;
  } catch {
    return undefined;
  }
}
