// What this browser keeps for the page, as JSON. One that is full, or keeps nothing, says so.

export function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** The text itself, or null. */
export function readRaw(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** -> whether it was kept; if not, "storage-failed" is told to the page. */
export function write(key, value) {
  return writeRaw(key, JSON.stringify(value));
}

export function writeRaw(key, text) {
  try {
    localStorage.setItem(key, text);
    return true;
  } catch {
    dispatchEvent(new Event("storage-failed"));
    return false;
  }
}

export function remove(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // Forbidden: then nothing was kept either.
  }
}

/** All keys that begin so. */
export function keysOf(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}
