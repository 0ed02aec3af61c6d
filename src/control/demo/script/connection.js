// The connection.

let attemptAt = 0;                 // when the next attempt comes, by `performance.now()`
let ticking = null;

function showState(state, words) {
  page.state.dataset.state = state;
  if (page.state.textContent !== words) page.state.textContent = words;  // else screen readers repeat it
  page.reconnect.hidden = state !== 'waiting' && state !== 'closed';
  clearInterval(ticking);
  page.countdown.textContent = '';
  if (state === 'waiting') {
    showCountdown();
    ticking = setInterval(showCountdown, 200);
  }
  showRooms();
  if (hall) showPeople();
}

function showCountdown() {
  const seconds = Math.ceil((attemptAt - performance.now()) / 1000);
  const words = seconds > 0 ? `next attempt in ${seconds} s` : 'trying…';
  if (page.countdown.textContent !== words) page.countdown.textContent = words;
}

function attachConnection() {
  client.on('connected', () => showState('open', 'Connected'));
  client.on('disconnected', ({ final }) => {
    for (const room of rooms) room.wasLost = room.isOpened;
    isListOld = true;
    if (final) showState('closed', 'Disconnected');
  });
  client.on('reconnecting', ({ delay }) => {
    attemptAt = performance.now() + delay;
    showState('waiting', 'Connection lost');
  });
  client.on('error', (error) => {
    // What answers a frame written by hand stands on the wire.
    if (!isUnasked || typeof error.code !== 'number') tell(error);
  });
  client.on('message', (event, data) => {
    if (data.channel === undefined) shown.note(`A direct message, “${event}”: ${JSON.stringify(data)}`);
  });
}

function tell({ message, cause }) {
  lobby.note(cause?.message ? `${message}: ${cause.message}` : message, true);
}

function joinAll() {
  for (const room of rooms) if (room.isOpened) room.join().catch(tell);
  joinHall();
}

// Authenticating drops the session's subscriptions, and the client does not know of this one.
function authenticatedByHand() {
  for (const channel of [...rooms.map((room) => room.channel), hall]) {
    if (channel.state === 'joined') channel.leave().catch(tell);
  }
  joinAll();
}

page.reconnect.addEventListener('click', () => {
  const isOver = client.state === 'closed';
  client.connect();
  if (isOver) joinAll();
  page.text.focus();
});
addEventListener('online', () => { if (client?.state === 'waiting') client.connect(); });
