// What outlives a reload: the conversation and the dials, in this browser. The API key only as long as the tab.

const CONVERSATION = "cascade.conversation";
const DIALS = "cascade.dials";
const KEY = "cascade.key";
const MOST_CHARACTERS = 2_000_000;

export function loadConversation() {
  const found = read(localStorage, CONVERSATION);
  return Array.isArray(found) ? found : [];
}

// Where there is no room for all of it, its beginning is dropped.
export function saveConversation(messages) {
  let kept = messages;
  let text = JSON.stringify(kept);
  while (text.length > MOST_CHARACTERS && kept.length > 2) {
    kept = kept.slice(2);
    text = JSON.stringify(kept);
  }
  write(localStorage, CONVERSATION, text);
}

export const loadDials = () => read(localStorage, DIALS) ?? {};
export const saveDials = (dials) => write(localStorage, DIALS, JSON.stringify(dials));
export const loadKey = () => read(sessionStorage, KEY) ?? "";
export const saveKey = (key) => write(sessionStorage, KEY, JSON.stringify(key));

function read(storage, name) {
  try {
    return JSON.parse(storage.getItem(name));
  } catch {
    return null;
  }
}

function write(storage, name, text) {
  try {
    storage.setItem(name, text);
  } catch {
    // Full, or forbidden: the page works all the same, until it is left.
  }
}
