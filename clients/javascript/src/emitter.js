/**
 * Handlers by event name.
 *
 * A handler that throws harms neither the client nor the other handlers: its error goes to `reportError` where there
 * is one, to the console elsewhere.
 */
export class Emitter {
  /** @param {string[]} [names] the events that exist; without, every name is one */
  constructor(names) {
    this._names = names;
    this._handlers = new Map(); // name → Map of handler → whether it is called only once
  }

  /**
   * Calls `handler` at every `name`, in the order of registration. Registering a handler twice is registering it once.
   *
   * @returns {() => void} takes the handler off again
   */
  on(name, handler) {
    this._register(name, handler, false);
    return () => this.off(name, handler);
  }

  /** Like {@link on}, for the next time only. */
  once(name, handler) {
    this._register(name, handler, true);
    return () => this.off(name, handler);
  }

  /** Takes `handler` off; without a handler, all of `name`. */
  off(name, handler) {
    const handlers = this._handlers.get(name);
    if (!handlers) return;
    if (handler) handlers.delete(handler);
    else handlers.clear();
    if (handlers.size === 0) this._handlers.delete(name);
  }

  _register(name, handler, once) {
    if (this._names && !this._names.includes(name)) {
      throw new TypeError(`there is no event "${name}", only ${this._names.join(', ')}`);
    }
    if (typeof handler !== 'function') throw new TypeError(`the handler of "${name}" is not a function`);
    if (!this._handlers.has(name)) this._handlers.set(name, new Map());
    const handlers = this._handlers.get(name);
    if (!once || !handlers.has(handler)) handlers.set(handler, once);
  }

  /** Calls the handlers of `name` and returns whether there were any. */
  _emit(name, ...values) {
    const handlers = this._handlers.get(name) || new Map();
    const calls = [...handlers];
    for (const [handler, once] of calls) {
      if (!handlers.has(handler)) continue; // An earlier one took it off.
      if (once) this.off(name, handler);
      try {
        handler(...values);
      } catch (error) {
        report(error);
      }
    }
    return calls.length > 0;
  }
}

/** Tells the page, or whoever reads the console, of an error that nobody else will hear of. */
export function report(error) {
  if (typeof globalThis.reportError === 'function') globalThis.reportError(error);
  else console.error(error);
}
