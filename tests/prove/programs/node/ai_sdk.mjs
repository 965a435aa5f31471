// The `ai` SDK: an agent's steps with a zod tool, an object by a zod schema, whole and streamed.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "thirdeye",
  baseURL: `${process.argv[2]}/v1`,
  apiKey: "none",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = provider("tiny");
const tools = {
  get_weather: tool({
    description: "The weather of a city",
    inputSchema: z.object({
      city: z.string().min(1),
      days: z.number().int().positive().optional(),
      labels: z.record(z.string(), z.string()).optional(),
    }),
    execute: async ({ city }) => `${city}: 21 degrees`,
  }),
};
const agent = { model, tools, stopWhen: stepCountIs(4), prompt: "What is the weather in Paris?" };
const reader = {
  model,
  output: Output.object({ schema: z.object({ name: z.string(), age: z.number().int() }) }),
  prompt: "Anna is 30 years old.",
};
const told = /^The tool says: .*Paris: 21 degrees/;
const anna = { name: "Anna", age: 30 };

const whole = await generateText(agent);
assert.match(whole.text, told);
assert.equal(whole.steps.length, 2);
assert.deepEqual((await generateText(reader)).output, anna);

const streamed = streamText(agent);
let pieces = 0;
for await (const _ of streamed.textStream) pieces += 1;
assert.ok(pieces > 1);
assert.match(await streamed.text, told);
assert.ok((await streamed.totalUsage).outputTokens > 1);

let last;
for await (const part of streamText(reader).partialOutputStream) last = part;
assert.deepEqual(last, anna);
console.log("ai_sdk: done");
