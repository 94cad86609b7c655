// The official OpenAI SDK for Node.
import OpenAI from "openai";
import { MODELS, PARAMETERS, error, main, weather } from "./interop.mjs";

const client = new OpenAI({ timeout: 20_000 });
const CHAT_TOOLS = [{ type: "function", function: { name: "get_weather", parameters: PARAMETERS } }];
const RESPONSES_TOOLS = [{ type: "function", name: "get_weather", parameters: PARAMETERS, strict: false }];

const chat = (prompt, more = {}) =>
  client.chat.completions.create({
    model: MODELS.chat_completions,
    messages: [{ role: "user", content: prompt }],
    ...more,
  });
const chatText = async (prompt) => ({ text: (await chat(prompt)).choices[0].message.content });

async function chatStream(prompt) {
  let text = "";
  for await (const chunk of await chat(prompt, { stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta?.content ?? "";
  }
  return { text };
}

async function chatTools(prompt) {
  const messages = [{ role: "user", content: prompt }];
  const reply = (await chat(prompt, { messages, tools: CHAT_TOOLS })).choices[0].message;
  const call = reply.tool_calls[0];
  const content = weather(JSON.parse(call.function.arguments).city);
  messages.push(reply, { role: "tool", tool_call_id: call.id, content });
  return { call: call.id, text: (await chat(prompt, { messages, tools: CHAT_TOOLS })).choices[0].message.content };
}

async function leave(stream) {
  for await (const _ of stream) break;
  stream.controller.abort();
  return { left: true };
}

const responses = (prompt, more = {}) => client.responses.create({ model: MODELS.responses, input: prompt, ...more });
const responsesText = async (prompt) => ({ text: (await responses(prompt)).output_text });

async function responsesStream(prompt) {
  let text = "";
  for await (const event of await responses(prompt, { stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  return { text };
}

async function responsesTools(prompt) {
  const first = await responses(prompt, { tools: RESPONSES_TOOLS });
  const call = first.output.find((item) => item.type === "function_call");
  const output = weather(JSON.parse(call.arguments).city);
  const input = [
    { role: "user", content: prompt },
    call,
    { type: "function_call_output", call_id: call.call_id, output },
  ];
  return { call: call.call_id, text: (await responses(prompt, { input, tools: RESPONSES_TOOLS })).output_text };
}

await main({
  chat_completions: {
    plain: chatText,
    stream: chatStream,
    tools: chatTools,
    error: (prompt) => error(() => chat(prompt)),
    limited: chatText,
    abort: async (prompt) => leave(await chat(prompt, { stream: true })),
  },
  responses: {
    plain: responsesText,
    stream: responsesStream,
    tools: responsesTools,
    error: (prompt) => error(() => responses(prompt)),
    limited: responsesText,
    abort: async (prompt) => leave(await responses(prompt, { stream: true })),
  },
});
