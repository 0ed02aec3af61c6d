globalThis.$wr = new WebRocket(new URL('.', document.currentScript.src));
