// All together.

function start() {
  if (!window.$wr) {
    showState('closed', 'The browser client could not be loaded');
    page.reconnect.hidden = true;
    return;
  }
  client = window.$wr;
  attachConnection();
  lobby.attach(client.channel('lobby'));
  privateRoom.attach(client.channel('private-room'));
  attachHall();
  if (client.state === 'connected') showState('open', 'Connected');
  identify({}).catch(tell);
  lobby.join().catch(tell);
}

listExamples();
showRecipe();
page.websocat.textContent = `websocat ${location.origin.replace(/^http/, 'ws')}/demo`;
show(lobby);
lobby.isOpened = true;
showRooms();
addEventListener('DOMContentLoaded', start);
