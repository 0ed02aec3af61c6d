// The wire.

const ARROWS = { sent: ['↑', 'sent'], received: ['↓', 'received'], event: ['·', 'connection'] };
const JSON_PARTS = /("(?:\\.|[^"\\])*")(\s*:)?|(-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b)|\b(true|false|null)\b/g;

// Colours JSON without parsing it, so that what is shown is what was on the wire, broken frames included.
function coloured(text) {
  const code = element('code');
  let end = 0;
  const plain = (upTo) => { if (upTo > end) code.append(text.slice(end, upTo)); };
  for (const part of text.matchAll(JSON_PARTS)) {
    plain(part.index);
    const [whole, string, colon, number] = part;
    if (string) {
      code.append(element('span', colon ? 'key' : 'string', string));
      if (colon) code.append(colon);
    } else {
      code.append(element('span', number ? 'number' : 'word', whole));
    }
    end = part.index + whole.length;
  }
  plain(text.length);
  return code;
}

function showOnWire(direction, text, kind) {
  const at = new Date();
  const [sign, word] = ARROWS[direction];
  const arrow = element('span', 'arrow', sign);
  arrow.setAttribute('aria-hidden', 'true');
  const time = element('time', '', preciseClock(at));
  time.dateTime = at.toISOString();
  const shown = text.length > SHOWN_CHARS_MAX
    ? `${text.slice(0, SHOWN_CHARS_MAX)}… (${text.length - SHOWN_CHARS_MAX} more characters)` : text;
  const code = direction === 'event' ? element('code', '', shown) : coloured(shown);
  code.dir = 'ltr';
  const entry = element('li', `frame ${direction}${kind ? ` ${kind}` : ''}`);
  entry.append(arrow, time, element('span', 'unseen', word), code);
  wire.append(entry);
}

// The socket below the client: what it carries is shown, and frames written by hand go out.

let socket = null;                 // the client's, while it is open
let isUnasked = false;             // whether the message that is being heard answers no request of the client

class WatchedWebSocket extends WebSocket {
  constructor(...address) {
    super(...address);
    this.addEventListener('open', () => {
      socket = this;
      showOnWire('event', `connected to ${this.url}`);
    });
    this.addEventListener('message', ({ data }) => heardOnWire(String(data)));
    this.addEventListener('close', ({ code, reason, wasClean }) => {
      // A socket that never opened is the quiet repetition of an outage, not news.
      if (socket === this) showOnWire('event', wasClean ? `closed ${code}${reason ? ` ${reason}` : ''}` : 'connection lost');
      if (socket === this) socket = null;
    });
  }

  send(text) {
    super.send(text);
    showOnWire('sent', text);
  }
}
// The client takes the constructor that it finds when it is loaded, below.
window.WebSocket = WatchedWebSocket;

function heardOnWire(text) {
  const message = parsed(text);
  const event = firstKey(message) ?? '';
  const isNews = !event.startsWith(':') || event === ':memberJoined' || event === ':memberLeft';
  showOnWire('received', text, event === ':error' ? 'err' : isNews ? '' : 'ack');
  isUnasked = message?.[event]?.ref === undefined;
  if (event === ':authenticated' && isUnasked) authenticatedByHand();
}

function parsed(text) {
  try { return JSON.parse(text); } catch { return null; }
}

const firstKey = (value) => (value !== null && typeof value === 'object' ? Object.keys(value)[0] : undefined);

// An error of the server in its own words, any other in the client's.
const why = ({ status: said, reason, message }) => (said ? `${said}${reason ? ` (${reason})` : ''}` : message);
