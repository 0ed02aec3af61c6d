/** What the client reports and rejects with. */
export class WebRocketError extends Error {
  /**
   * @param {number|string} code the protocol's number, or one of the client's own words (README, "Errors")
   * @param {string} message what happened, for people
   * @param {{ status?: string, reason?: string, cause?: unknown }} [details] `status` and `reason` as the server
   *   gave them; `cause` is the error behind this one
   */
  constructor(code, message, { status, reason, cause } = {}) {
    super(message);
    this.name = 'WebRocketError';
    this.code = code;
    this.status = status;
    this.reason = reason;
    if (cause !== undefined) this.cause = cause;
  }
}

/** The error that an `:error` of the server stands for; `subject` says what was asked. */
export function refusal(subject, { code, status, reason }) {
  const message = `${subject}: ${code} ${status}${reason ? ` (${reason})` : ''}`;
  return new WebRocketError(code, message, { status, reason });
}
