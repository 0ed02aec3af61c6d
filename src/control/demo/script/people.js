// Who is here.

let hall = null;                   // the presence channel
const fresh = new Set();           // who has just come
const expected = new Set();        // who said with the farewell that it is none

// What a farewell says tells apart who goes away, who comes back at once, and who comes back under another name.
function leaveHall(farewell) {
  if (hall.state !== 'left') hall.leave({ data: farewell }).catch(tell);
}

function joinHall() {
  hall.join({ data: status ? { status } : {}, hidden: page.hidden.checked }).catch(tell);
}

// Authenticates this session for the present name, and later ones for the name that is then chosen.
function identify(farewell) {
  leaveHall(farewell);
  // It ends the subscriptions, and no event tells that the rooms are being joined again.
  const done = client.authenticate(askForToken).finally(showRooms);
  joinHall();
  return done;
}

function useName() {
  const chosen = page.name.value.trim();
  page.name.value = chosen || name;
  if (!chosen || chosen === name) return;
  name = chosen;
  store('name', name);
  showRecipe();
  identify({ as: name }).catch(tell);
}

// A subscriber's data is told at joining, so a new status takes joining again.
function useStatus() {
  const chosen = page.status.value.trim();
  if (chosen === status) return;
  status = chosen;
  store('status', status);
  leaveHall({ back: true });
  joinHall();
}

page.name.addEventListener('change', useName);
page.status.addEventListener('change', useStatus);
page.name.addEventListener('keydown', (event) => { if (event.key === 'Enter') { useName(); page.text.focus(); } });
page.status.addEventListener('keydown', (event) => { if (event.key === 'Enter') useStatus(); });
page.hidden.addEventListener('change', () => { leaveHall({}); joinHall(); });

const wordsOf = (value) => (typeof value === 'string' ? value.trim().slice(0, 200) : '');

function attachHall() {
  hall = client.channel('presence-lobby');
  hall.on('subscribed', ({ rejoined }) => {
    if (rejoined) expected.clear();
    isListOld = false;
    showPeople();
  });
  hall.on('unsubscribed', ({ reason, error }) => {
    if (reason === 'refused') tell(error);
    isListOld = false;
    showPeople();
  });
  hall.on('online', (uid, data) => {
    const saying = wordsOf(data.status) ? `: ${wordsOf(data.status)}` : '';
    if (uid !== hall.uid && !expected.delete(uid)) lobby.note(`${uid} is here${saying}`);
    fresh.add(uid);
    setTimeout(() => fresh.delete(uid), FRESH_MS);
    showPeople();
  });
  hall.on('offline', (uid, data) => {
    const other = wordsOf(data.as);
    if (other) {
      lobby.note(`${uid} is now called ${other}`);
      expected.add(other);
    } else if (data.back === true) {
      expected.add(uid);
    } else if (uid !== hall.uid) {
      lobby.note(`${uid} has left`);
    }
    if (expected.size > PEOPLE_MAX) expected.clear();
    showPeople();
  });
}

let peopleScheduled = false;
let isListOld = false;             // whether the list is from before the connection was lost

// Once per painted picture, however many come and go.
function showPeople() {
  if (peopleScheduled) return;
  peopleScheduled = true;
  requestAnimationFrame(() => {
    peopleScheduled = false;
    const own = ([uid]) => (uid === hall.uid ? 0 : 1);
    const everybody = [...hall.subscribers].sort((a, b) => own(a) - own(b) || a[0].localeCompare(b[0]));
    const entries = everybody.slice(0, PEOPLE_MAX).map(([uid, data]) => person(uid, data));
    const others = hall.subscriberCount - entries.length;
    if (others > 0) entries.push(element('li', 'more', `and ${others} more`));
    const isUnlisted = hall.state === 'joined' && page.hidden.checked && !hall.subscribers.has(hall.uid);
    if (isUnlisted) entries.unshift(person(hall.uid, { status }));
    if (entries.length === 0) entries.push(element('li', 'nobody', 'Nobody yet'));
    page.people.replaceChildren(...entries);
    page.people.classList.toggle('stale', isListOld);
    page.count.textContent = hall.subscriberCount;
  });
}

function person(uid, data) {
  const isListed = hall.subscribers.has(uid);
  const entry = element('li', !isListed ? 'unlisted' : fresh.has(uid) ? 'fresh' : '');
  const who = element('div', 'who');
  who.append(element('span', 'from', uid));
  if (uid === hall.uid) who.append(' ', element('span', 'tag', isListed ? 'you' : 'you, hidden'));
  const about = element('div');
  about.append(who);
  const words = wordsOf(data.status);
  if (words) about.append(element('div', 'status', words));
  entry.append(faceOf(uid), about);
  return entry;
}
