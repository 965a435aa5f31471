// openai for Node: a tool's round by its runner, a form by zod, streams; over chat and Responses.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none" });
const model = "tiny";
const Person = z.object({ name: z.string(), age: z.number().int() });
const anna = { name: "Anna", age: 30 };
const about = [{ role: "user", content: "Anna is 30 years old." }];
const weather = [{ role: "user", content: "What is the weather in Paris?" }];
const tool = zodFunction({
  name: "get_weather",
  parameters: z.object({ city: z.string() }),
  function: ({ city }) => `${city}: 21 degrees`,
});
const told = "The tool says: Paris: 21 degrees";

for (const stream of [false, true]) {
  const runner = client.chat.completions.runTools({ model, stream, messages: weather, tools: [tool] });
  assert.equal(await runner.finalContent(), told);
}

const whole = await client.chat.completions.parse({
  model, messages: about, response_format: zodResponseFormat(Person, "person"),
});
assert.deepEqual(whole.choices[0].message.parsed, anna);

let pieces = 0;
const chunks = client.chat.completions.stream({
  model, messages: about, stream_options: { include_usage: true },
  response_format: zodResponseFormat(Person, "person"),
}).on("content.delta", () => (pieces += 1));
const final = await chunks.finalChatCompletion();
assert.deepEqual(final.choices[0].message.parsed, anna);
assert.ok(pieces > 1 && final.usage.completion_tokens > 1);

const answer = await client.responses.parse({
  model, input: about, text: { format: zodTextFormat(Person, "person") },
});
assert.deepEqual(answer.output_parsed, anna);
const events = client.responses.stream({ model, input: "Hello?" });
const types = [];
for await (const event of events) types.push(event.type);
assert.equal(types.at(-1), "response.completed");
assert.equal((await events.finalResponse()).output_text, "Hello there!");
console.log("openai: done");
