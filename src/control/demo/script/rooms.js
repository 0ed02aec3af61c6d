// Rooms.

class Room {
  constructor(id, channelName, kind) {
    this.channelName = channelName;
    this.kind = kind;
    this.channel = null;
    this.isOpened = false;         // whether this page wants to be in there
    this.wasLost = false;          // whether it fell out of it with its connection
    this.unread = 0;
    this.lastSpeaker = null;
    this.tab = byId(`${id}-tab`);
    this.panel = byId(`${id}-room`);
    this.badge = this.tab.querySelector('.number-badge');
    this.feed = new Feed(byId(id));
    this.tab.addEventListener('click', () => { show(this); if (this.isOpened) page.text.focus(); });
  }

  attach(channel) {
    this.channel = channel;
    channel.event('message').on((data, { sid }) => this.message(data, sid));
    channel.on('subscribed', () => {
      if (this.wasLost) this.note(`Back in “${this.channelName}”`);
      this.wasLost = false;
      showRooms();
    });
    channel.on('unsubscribed', ({ reason, error }) => {
      if (reason === 'closed') this.note(`You are no longer in “${this.channelName}”: it was closed, or left by hand`);
      if (reason === 'refused') this.note(`Could not come back to “${this.channelName}”: ${why(error)}`, true);
      showRooms();
    });
  }

  join() {
    this.isOpened = true;
    showRooms();
    return this.channel.join();
  }

  say(text) {
    this.feed.follow(true);
    const trigger = text.startsWith('/') ? 'command' : undefined;
    this.channel.event('message').fire({ from: name, text }, { trigger }).catch((error) => {
      if (trigger && error.code === 503) this.note(NO_BACKEND, true);
      else this.note(`Not delivered: ${why(error)}`, true);
    });
  }

  note(text, isBad) {
    this.lastSpeaker = null;
    this.feed.append(element('li', isBad ? 'note bad' : 'note', text));
    if (this === lobby && this.feed.list.childElementCount > WELCOME_NOTES_MAX) page.welcome.hidden = true;
  }

  // Anybody may broadcast anything as a `message`: what is no text is shown as JSON, who gives no name is a stranger.
  message({ from, text, data }, sid) {
    const speaker = typeof from === 'string' && from.trim() ? from.slice(0, 80) : sid ? 'somebody' : 'the backend';
    const words = text ?? data ?? '(no text)';
    const at = new Date();
    const key = `${sid}\n${speaker}`;
    const isFollowing = key === this.lastSpeaker;
    this.lastSpeaker = key;

    const entry = element('li', 'message');
    entry.classList.toggle('own', sid !== undefined && sid === client.sid);
    entry.classList.toggle('follow', isFollowing);
    const time = element('time', '', clock(at));
    time.dateTime = at.toISOString();
    const said = element('div', isFollowing ? 'said unseen' : 'said');
    const who = element('span', 'from', speaker);
    if (sid) who.title = `session ${sid}`;
    said.append(who, time);
    const body = element('div', 'text', typeof words === 'string' ? words : JSON.stringify(words));
    body.dir = 'auto';
    entry.append(faceOf(speaker), said, body);
    if (this === lobby) page.welcome.hidden = true;
    this.feed.append(entry);
    if (this !== shown || document.hidden) this.unread += 1;
    showUnread();
  }
}

const lobby = new Room('lobby', 'lobby', 'an open channel');
const privateRoom = new Room('private', 'private-room', 'a private channel');
const rooms = [lobby, privateRoom];
let shown = null;

function show(room) {
  shown = room;
  for (const each of rooms) {
    each.panel.hidden = each !== room;
    each.tab.setAttribute('aria-selected', String(each === room));
    each.tab.tabIndex = each === room ? 0 : -1;
  }
  page.kind.textContent = room.kind;
  if (room.feed.following) room.feed.toEnd();
  showUnread();
  showRooms();
}

// The arrow keys go from tab to tab, as everywhere.
byId('lobby-tab').parentElement.addEventListener('keydown', (event) => {
  if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
  event.preventDefault();
  show(shown === lobby ? privateRoom : lobby);
  shown.tab.focus();
});

function showUnread() {
  if (!document.hidden) shown.unread = 0;
  for (const { badge, unread } of rooms) {
    badge.hidden = unread === 0;
    badge.textContent = unread;
    badge.setAttribute('aria-label', `${unread} unread`);
  }
  const all = lobby.unread + privateRoom.unread;
  document.title = document.hidden && all > 0 ? `(${all}) WebRocket demo` : 'WebRocket demo';
}
document.addEventListener('visibilitychange', showUnread);

function showRooms() {
  const isConnected = client?.state === 'connected';
  const state = shown.channel?.state;
  for (const { tab, channel } of rooms) tab.dataset.state = channel?.state ?? 'left';
  page.send.disabled = !isConnected || state !== 'joined';
  page.rawSend.disabled = !isConnected;
  page.rejoin.hidden = !isConnected || !shown.isOpened || state !== 'left';
  page.text.placeholder = shown.isOpened ? 'Write a message' : 'Open the room first';
  page.text.disabled = !shown.isOpened;
}

page.say.addEventListener('submit', (event) => {
  event.preventDefault();
  const text = page.text.value.trim();
  if (!text || client?.state !== 'connected' || shown.channel.state === 'left') return;
  shown.say(text);
  page.text.value = '';
  page.text.focus();
});
page.rejoin.addEventListener('click', () => {
  const room = shown;
  room.join().catch((error) => room.note(`Could not join “${room.channelName}”: ${why(error)}`, true));
  page.text.focus();
});

// Tokens: the server plays the application's backend.

// The client asks anew at each session, for a token lets one session in, once.
async function askForToken() {
  const address = `/dev/token?uid=${encodeURIComponent(name)}`;
  const response = await fetch(address);
  showOnWire('event', `GET ${address}: ${response.status}`);
  const { token, error } = await response.json();
  if (!response.ok) throw new Error(error);
  return token;
}

function showRecipe() {
  const encoded = (text) => encodeURIComponent(text).replaceAll("'", '%27');
  const query = `uid=${encoded(name)}&channels=${encoded('presence-lobby|private-room')}`;
  page.curl.textContent = `curl -u 'wr:<vhost access token>' '${location.origin}/demo/token?${query}'`;
}

page.openPrivate.addEventListener('click', async () => {
  page.openPrivate.disabled = true;
  try {
    // Both are sent in this order. Authenticating drops the session's subscriptions; the client joins again by itself.
    await Promise.all([identify({ back: true }), privateRoom.join()]);
    page.gate.hidden = true;
    page.privateView.hidden = false;
    page.recipe.open = false;
    privateRoom.note(`You are in “private-room” as ${privateRoom.channel.uid}. Others hear you once they have opened it too.`);
    page.text.focus();
  } catch (error) {
    privateRoom.isOpened = false;
    page.openPrivate.disabled = false;
    tell(error);
  }
  showRooms();
});
