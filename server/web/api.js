// Talks to the server. The key lives in this tab only and goes out as a Bearer header, never in a URL.
import { readEvents } from "./sse.js";

export const server = { model: null, context: 0, chats: true, suggested: {}, models: [], state: "ready" };

/** fetch with this tab's key; an error answer becomes an Error with the server's message. */
export async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers }).catch(inWords);
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const error = new Error(body?.error?.message ?? `The server answered ${response.status}.`);
  error.status = response.status;
  if (error.status === 401) dispatchEvent(new Event("key-wanted"));
  throw error;
}

/** Browsers say of a connection what only they understand ("Failed to fetch"). */
function inWords(error) {
  throw error instanceof TypeError ? new Error("The server cannot be reached.") : error;
}

export function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return call(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** The JSON events of a streamed answer; an error event is thrown. */
export async function* stream(response) {
  for await (const event of readEvents(response)) {
    if (event.error) throw new Error(event.error.message);
    yield event;
  }
}

/** The card of the model that is to answer: the one of this name while it is served, else the chosen one. */
export const cardOf = (name) => server.models.find(({ id }) => id === name) ?? { id: server.model, max_model_len: server.context };

/** What a GET adds to its query, where there is a choice. */
export const ofModel = () => (server.models.length > 1 ? `&model=${encodeURIComponent(server.model)}` : "");

/** Finds out what is served. Of several models the one that was chosen in this tab is asked, else the first. */
export async function connect() {
  const { data } = await (await call("/v1/models")).json();
  server.models = data.filter(({ id, root }) => id === root);
  const card = server.models.find(({ id }) => id === sessionStorage.getItem("model")) ?? data[0];
  server.model = card.id;
  server.context = card.max_model_len;
  server.state = card.state ?? "ready";
  const said = Object.entries(card.generation_defaults ?? {}).filter(([, value]) => value !== null);
  server.suggested = Object.fromEntries(said);
}
