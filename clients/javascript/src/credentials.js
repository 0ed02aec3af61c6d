import { WebRocketError } from './errors.js';

/**
 * What sessions authenticate with: a single access token, a function that gets one, or a user with a secret.
 *
 * A token lets one session in, once. So a function is asked for a fresh one each time, and a token given as a string
 * is `spent` as soon as the server has judged it.
 */
export class Credentials {
  constructor(given) {
    const isUser = given && typeof given.user === 'string';
    if (!(typeof given === 'function' || (typeof given === 'string' && given) || isUser)) {
      throw new TypeError('to authenticate takes a token, a function that returns one, or { user, secret }');
    }
    this._given = given;
    this._spent = false;
  }

  /** The server has judged them. */
  judged() {
    this._spent = typeof this._given === 'string';
  }

  /** Whether they are of no further use. */
  get spent() {
    return this._spent;
  }

  /** The payload of an `auth` request. A function gets `timeout` milliseconds to find a token. */
  async payload(timeout) {
    if (this._spent) {
      throw new WebRocketError(
        'token-spent',
        'a token authenticates only once: the new session stays anonymous; give a function that gets fresh tokens',
      );
    }
    if (typeof this._given === 'string') return { token: this._given };
    if (typeof this._given === 'object') return { user: this._given.user, secret: this._given.secret };
    const token = await this._ask(timeout);
    if (typeof token === 'string' && token) return { token };
    throw new WebRocketError('token-failed', `the token function returned no token but ${typeof token}`);
  }

  async _ask(timeout) {
    let timer;
    const expired = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no token within ${timeout} ms`)), timeout);
    });
    try {
      return await Promise.race([(0, this._given)(), expired]);
    } catch (cause) {
      throw new WebRocketError('token-failed', 'the token function failed', { cause });
    } finally {
      clearTimeout(timer);
    }
  }
}
