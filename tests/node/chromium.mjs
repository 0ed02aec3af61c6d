// A browser for tests that need a real one.

import { chromium } from 'playwright-core';

/** Starts a headless Chromium: the one that `WEBROCKET_CHROMIUM` names, or the system's. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.WEBROCKET_CHROMIUM || process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  });
}
