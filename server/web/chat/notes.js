// How an answer ended, in true words, and what it took.
import { server } from "../api.js";

/** The line below an answer. */
export function noteOf(message) {
  const name = server.models.length > 1 ? message.model : "";
  return [ending(message), message.stats, name].filter(Boolean).join(" · ");
}

function ending({ state, finish, error, isFull, context, asked, ids, content, thought }) {
  if (state === "stopped") return content || thought ? "stopped by you" : "stopped by you before the first token";
  if (state === "broken") return `broke off: ${error}`;
  if (state !== "done" || finish !== "length") return "";
  if (isFull) return `cut: the conversation fills all ${context.toLocaleString("en")} tokens that this model reads`;
  const limit = asked?.fields.max_tokens;
  return limit ? `cut at the limit of ${Math.max(limit, ids?.length ?? 0)} tokens, Max tokens in the settings` : "cut at the server's limit of tokens";
}

/** Whether more of it can come. */
export function canContinue({ role, state, finish, isFull }) {
  if (role !== "assistant") return false;
  return state === "stopped" || state === "broken" || (state === "done" && finish === "length" && !isFull);
}
