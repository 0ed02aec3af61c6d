// Frames written by hand.

function listExamples() {
  const frame = (value) => JSON.stringify(value);
  const broadcast = (event, data, ref) => frame({ broadcast: { channel: 'lobby', event, data, ref } });
  const groups = {
    'Speak': {
      'Broadcast an object': broadcast('message', { from: 'The wire', text: 'Hello!' }),
      'Broadcast a bare value: it arrives as “data”': broadcast('message', 'a bare string'),
      'Broadcast an event of your own': broadcast('wave'),
      'Broadcast with a ref: it is acknowledged': broadcast('wave', { to: 'you' }, 'mine'),
      'Trigger a backend: 503 while no worker is there': frame({ trigger: { event: 'order', data: { item: 'fuel', litres: 4.5 } } }),
    },
    'Rights': {
      'Authenticate as a user who may manage channels': frame({ auth: { user: 'manager', secret: 'demo' } }),
      'Authenticate with a wrong secret': frame({ auth: { user: 'manager', secret: 'guess' } }),
      'Open a channel: needs MANAGE': frame({ openChannel: { channel: 'news' } }),
      'Subscribe to it': frame({ subscribe: { channel: 'news' } }),
      'Close it: needs MANAGE': frame({ closeChannel: { channel: 'news' } }),
    },
    'Go wrong': {
      'An unknown event': frame({ fly: { to: 'the moon' } }),
      'A channel that nobody opened': frame({ subscribe: { channel: 'nowhere' } }),
      'A bad channel name': frame({ subscribe: { channel: 'not a name!' } }),
      'Broken JSON': '{"subscribe":',
      'Leave the lobby': frame({ unsubscribe: { channel: 'lobby' } }),
      'Close the session: the client makes a new one': frame({ close: {} }),
    },
  };
  page.examples.append(...Object.entries(groups).map(([label, frames]) => {
    const group = element('optgroup');
    group.label = label;
    group.append(...Object.entries(frames).map(([words, text]) => {
      const option = element('option', '', words);
      option.value = text;
      return option;
    }));
    return group;
  }));
}

page.acks.addEventListener('change', () => {
  page.wire.classList.toggle('acks-hidden', !page.acks.checked);
  if (wire.following) wire.toEnd();
});
page.clear.addEventListener('click', () => wire.clear());
page.examples.addEventListener('change', () => { if (page.examples.value) page.raw.value = page.examples.value; });
page.raw.addEventListener('input', () => { page.examples.selectedIndex = 0; });
page.raw.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    page.rawForm.requestSubmit();
  }
});
page.rawForm.addEventListener('submit', (event) => {
  event.preventDefault();
  if (page.raw.value.trim() && socket?.readyState === WebSocket.OPEN) socket.send(page.raw.value);
});
