// What is sent for an answer: the messages above it, and the settings it was asked with, which it keeps,
// so that it can go on later just as it began.
import { server } from "../api.js";
import { pathTo } from "./tree.js";

export const FIELDS = ["temperature", "top_p", "top_k", "frequency_penalty", "max_tokens", "seed"];

/** Without suggestions of its maker a model gets ours: small ones wander, and go round in circles. */
export function calm() {
  return Object.keys(server.suggested).length ? {} : { temperature: 0.3, frequency_penalty: 0.3 };
}

/** {system, fields} of a chat's settings. There is always a seed: with it an answer can be resumed. */
export function askedOf(settings) {
  const given = FIELDS.filter((name) => (settings[name] ?? "") !== "").map((name) => [name, Number(settings[name])]);
  const fields = { ...calm(), seed: Math.floor(Math.random() * 2 ** 31), ...Object.fromEntries(given) };
  if (settings.thinking) fields.think = settings.thinking === "on";
  if ((settings.tools ?? "").trim()) fields.tools = JSON.parse(settings.tools); // throws where it is no JSON
  return { system: (settings.system ?? "").trim(), fields };
}

/** A message as the API has it. */
function sent({ role, content, thought, calls, files, callId }) {
  if (role === "tool") return { role, content, tool_call_id: callId };
  if (role === "user") return { role, content: withFiles(content, files) };
  return {
    role,
    content,
    ...(thought && { reasoning_content: thought }),
    ...(calls?.length && {
      tool_calls: calls.map(({ id, name, text }) => ({ id, type: "function", function: { name, arguments: text } })),
    }),
  };
}

/** Attached texts stand before what was written, each in a fence that it does not hold itself. */
function withFiles(content, files = []) {
  const parts = files.map(({ name, text }) => {
    const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
    const fence = "`".repeat(longest + 1);
    return `${name}:\n${fence}\n${text.trimEnd()}\n${fence}`;
  });
  return [...parts, content].filter(Boolean).join("\n\n");
}

/** The conversation down to `message`, as the API has it. */
export function conversation(chat, message, system) {
  const path = message ? pathTo(chat, message) : [];
  const said = path.filter(({ role, content, calls }) => role !== "assistant" || content || calls?.length);
  return [...(system ? [{ role: "system", content: system }] : []), ...said.map(sent)];
}

/** The body that asks for `message`, or for the rest of it: by its token ids where this model drew
 * them (`byTokens`), else by its text. */
export function bodyOf(chat, message, byTokens) {
  const { system, fields } = message.asked;
  const above = conversation(chat, chat.messages[message.parent], system);
  const known = byTokens ? message.ids.slice(0, -1) : []; // the last one is drawn again, to see that it is the same
  const isText = !byTokens && message.content !== "";
  return {
    model: message.model,
    messages: isText ? [...above, sent({ ...message, calls: [] })] : above,
    ...(isText && { continue_final_message: true }),
    ...(known.length && { answer_token_ids: known }),
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    return_token_ids: true,
    ...fields,
  };
}
