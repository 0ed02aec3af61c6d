// One connection over the `ws` client, whichever dialect it speaks.

import { WebSocket } from 'ws';

import { within } from './awaiting.mjs';

/** One connection; messages are texts and come in order, the close comes last. */
export class Client {
  #heard = [];
  #waiting = [];

  constructor(url, protocols = []) {
    this.socket = new WebSocket(url, protocols, { perMessageDeflate: false });
    this.socket.on('message', (data) => this.#arrived(data.toString()));
    this.closed = new Promise((resolve) => this.socket.once('close', (code) => resolve(code)));
    this.opened = new Promise((resolve, reject) => {
      this.socket.once('open', resolve);
      this.socket.on('error', reject);
    });
  }

  #arrived(text) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(text);
    else this.#heard.push(text);
  }

  say(message) {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** The next message. */
  hear() {
    if (this.#heard.length > 0) return Promise.resolve(this.#heard.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), 'a message');
  }

  /** The next `count` messages. */
  async hearAll(count) {
    const texts = [];
    while (texts.length < count) texts.push(await this.hear());
    return texts;
  }

  /** Says `message` and resolves to the next message. */
  ask(message) {
    this.say(message);
    return this.hear();
  }

  hearClose() {
    return within(this.closed, 'the close');
  }
}
