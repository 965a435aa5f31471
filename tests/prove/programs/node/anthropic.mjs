// @anthropic-ai/sdk: a tool's round, streams, a count.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.argv[2], apiKey: "none" });
const base = { model: "claude-tiny", max_tokens: 4000 };
const tools = [
  {
    name: "get_weather",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];
const whole = (body) => client.messages.create(body);
const streamed = (body) => client.messages.stream(body).finalMessage();

for (const ask of [whole, streamed]) {
  const messages = [{ role: "user", content: "What is the weather in Paris?" }];
  const called = await ask({ ...base, messages, tools });
  assert.equal(called.stop_reason, "tool_use");
  const call = called.content.find((block) => block.type === "tool_use");
  assert.deepEqual(call.input, { city: "Paris" });
  const result = { type: "tool_result", tool_use_id: call.id, content: "21 degrees" };
  messages.push({ role: "assistant", content: called.content }, { role: "user", content: [result] });
  const told = await ask({ ...base, messages, tools });
  assert.equal(told.content[0].text, "The tool says: 21 degrees");
  assert.ok(told.usage.output_tokens > 1);
}

let pieces = 0;
const messages = [{ role: "user", content: "Hello?" }];
const stream = client.messages.stream({ ...base, messages }).on("text", () => (pieces += 1));
assert.equal(await stream.finalText(), "Hello there!");
assert.ok(pieces > 1);
assert.ok((await client.messages.countTokens({ model: base.model, messages })).input_tokens > 0);
console.log("anthropic: done");
