// The Vercel AI SDK with its OpenAI and Anthropic providers.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { MODELS, PARAMETERS, error, main, weather } from "./interop.mjs";

// Its Anthropic provider wants `/v1` in the base URL, where Anthropic's own SDK adds it.
const base = process.env.ANTHROPIC_BASE_URL;
const anthropic = createAnthropic(base ? { baseURL: `${base}/v1` } : {});
const openai = createOpenAI();

function scenarios(model) {
  const ask = (prompt, more = {}) => generateText({ model, prompt, maxRetries: 2, ...more });
  const text = async (prompt) => ({ text: (await ask(prompt)).text });

  async function stream(prompt) {
    let text = "";
    for await (const part of streamText({ model, prompt }).textStream) text += part;
    return { text };
  }

  async function tools(prompt) {
    const get_weather = tool({
      description: "The weather in a city",
      inputSchema: jsonSchema(PARAMETERS),
      execute: async ({ city }) => weather(city),
    });
    const result = await ask(prompt, { tools: { get_weather }, stopWhen: stepCountIs(2) });
    return { call: result.steps[0].toolCalls[0].toolCallId, text: result.text };
  }

  async function abort(prompt) {
    const leaving = new AbortController();
    const { fullStream } = streamText({ model, prompt, abortSignal: leaving.signal, onError() {} });
    for await (const part of fullStream) if (part.type === "text-delta") break;
    leaving.abort();
    return { left: true };
  }

  return { plain: text, stream, tools, error: (prompt) => error(() => ask(prompt)), limited: text, abort };
}

await main({
  chat_completions: scenarios(openai.chat(MODELS.chat_completions)),
  responses: scenarios(openai.responses(MODELS.responses)),
  messages: scenarios(anthropic(MODELS.messages)),
});
