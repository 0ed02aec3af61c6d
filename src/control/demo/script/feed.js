// Lists that keep their last entries, and follow the newest unless one reads further up.

class Feed {
  constructor(list) {
    this.list = list;
    this.view = byId(`${list.id}-scroll`);
    this.latest = byId(`${list.id}-latest`);
    this.scheduled = false;
    this.endTop = 0;
    this.follow(true);
    this.view.addEventListener('scroll', () => {
      const { scrollTop, scrollHeight, clientHeight } = this.view;
      if (scrollHeight - scrollTop - clientHeight < NEAR_PX) {
        this.follow(true);
      } else if (scrollTop < this.endTop - NEAR_PX) {
        // Compared with where the end was: entries that came since do not mean that anybody scrolled.
        this.follow(false);
      }
    }, { passive: true });
    this.latest.addEventListener('click', () => { this.toEnd(); this.view.focus(); });
    new ResizeObserver(() => { if (this.following) this.toEnd(); }).observe(this.view);
  }

  append(entry) {
    this.list.append(entry);
    while (this.list.childElementCount > ENTRIES_MAX) this.list.firstElementChild.remove();
    if (!this.following) {
      this.latest.hidden = false;
    } else if (!this.scheduled) {
      // Once per painted picture, however many entries a burst brings.
      this.scheduled = true;
      requestAnimationFrame(() => {
        this.scheduled = false;
        if (this.following) this.toEnd();
      });
    }
  }

  toEnd() {
    this.follow(true);
    this.view.scrollTop = this.view.scrollHeight;
    this.endTop = this.view.scrollTop;
  }

  clear() {
    this.list.replaceChildren();
    this.toEnd();
  }

  follow(following) {
    this.following = following;
    // Entries dropped above must not move what is being read; at the end the list moves anyway.
    this.view.style.overflowAnchor = following ? 'none' : 'auto';
    if (following) this.latest.hidden = true;
  }
}

const wire = new Feed(page.wire);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const two = (number) => String(number).padStart(2, '0');
const clock = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;
const preciseClock = (at) => `${clock(at)}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`;

function hueOf(text) {
  let hash = 0;
  for (const letter of text) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return hash;
}

const initials = (text) => text.split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? '').join('').toUpperCase();

function faceOf(who) {
  const face = element('span', 'face', initials(who));
  face.setAttribute('aria-hidden', 'true');
  face.style.setProperty('--hue', hueOf(who));
  return face;
}
