// Bounds, what the page is made of, and the visitor's name and status.

const ENTRIES_MAX = 500;           // of a room, and of the wire
const PEOPLE_MAX = 200;            // shown; the others are counted
const SHOWN_CHARS_MAX = 4000;      // of one frame on the wire
const NEAR_PX = 24;                // as near as this to the end of a list is at its end
const WELCOME_NOTES_MAX = 3;       // above the words of welcome
const FRESH_MS = 1500;             // how long somebody who has just come stands out
const NO_BACKEND = 'Not delivered: what begins with a slash goes to a backend too, and none is there to take it. ' +
  'The README starts one: examples/bot.py.';

const byId = (id) => document.getElementById(id);
const page = {
  state: byId('state'), countdown: byId('countdown'), reconnect: byId('reconnect'),
  kind: byId('kind'), gate: byId('gate'), privateView: byId('private-view'), openPrivate: byId('open-private'),
  recipe: byId('recipe'), curl: byId('curl'), welcome: byId('welcome'),
  say: byId('say'), text: byId('text'), send: byId('send'), rejoin: byId('rejoin'),
  name: byId('name'), status: byId('status'), hidden: byId('hidden'), people: byId('people'), count: byId('count'),
  wire: byId('wire'), acks: byId('acks'), clear: byId('clear'), websocat: byId('websocat'),
  examples: byId('examples'), raw: byId('raw'), rawForm: byId('raw-form'), rawSend: byId('raw-send'),
};

let client = null;                 // `$wr`, once it is loaded

const pick = (list) => list[Math.floor(Math.random() * list.length)];
const friendlyName = () =>
  pick(['Brave', 'Bright', 'Calm', 'Clever', 'Cosmic', 'Curious', 'Gentle', 'Happy', 'Keen', 'Lucky', 'Lunar', 'Merry',
    'Nimble', 'Quiet', 'Solar', 'Sunny', 'Swift', 'Witty']) + ' ' +
  pick(['Badger', 'Beaver', 'Comet', 'Dolphin', 'Falcon', 'Finch', 'Fox', 'Heron', 'Koala', 'Lynx', 'Marten', 'Otter',
    'Owl', 'Panda', 'Puffin', 'Raven', 'Seal', 'Sparrow']);

// Storage throws where the browser forbids it; what it should keep then lasts as long as the page.
const stored = (key) => { try { return sessionStorage.getItem(key); } catch { return null; } };
const store = (key, value) => { try { sessionStorage.setItem(key, value); } catch { /* see above */ } };

let name = stored('name') || friendlyName();
let status = stored('status') || '';
store('name', name);
page.name.value = name;
page.status.value = status;
