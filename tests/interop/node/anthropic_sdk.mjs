// The official Anthropic SDK for Node.
import Anthropic from "@anthropic-ai/sdk";
import { MODELS, PARAMETERS, error, main, weather } from "./interop.mjs";

const client = new Anthropic({ timeout: 20_000 });
const TOOLS = [{ name: "get_weather", input_schema: PARAMETERS }];

const ask = (prompt, more = {}) =>
  client.messages.create({
    model: MODELS.messages,
    max_tokens: 1024,
    messages: [{ role: "user", content: prompt }],
    ...more,
  });
const text = async (prompt) => ({ text: (await ask(prompt)).content[0].text });

async function stream(prompt) {
  let text = "";
  for await (const event of await ask(prompt, { stream: true })) {
    if (event.type === "content_block_delta") text += event.delta.text;
  }
  return { text };
}

async function tools(prompt) {
  const messages = [{ role: "user", content: prompt }];
  const reply = await ask(prompt, { messages, tools: TOOLS });
  const call = reply.content.find((block) => block.type === "tool_use");
  const result = { type: "tool_result", tool_use_id: call.id, content: weather(call.input.city) };
  messages.push({ role: "assistant", content: reply.content }, { role: "user", content: [result] });
  return { call: call.id, text: (await ask(prompt, { messages, tools: TOOLS })).content[0].text };
}

async function abort(prompt) {
  const events = await ask(prompt, { stream: true });
  for await (const _ of events) break;
  events.controller.abort();
  return { left: true };
}

await main({
  messages: { plain: text, stream, tools, error: (prompt) => error(() => ask(prompt)), limited: text, abort },
});
