// What every Node driver shares: the scenarios' prompts, and how results are told. See python/interop.py.
const TAG = process.env.INTEROP_TAG;

export const MODELS = { chat_completions: "gpt-5.2", responses: "gpt-5.2", messages: "claude-sonnet-5" };
export const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

export function weather(city) {
  if (city !== "Zürich") throw new Error(city);
  return "rain";
}

export async function error(call) {
  let raised;
  try {
    await call();
  } catch (error) {
    raised = error;
  }
  if (!raised) throw new Error("no error was raised");
  return { status: raised.status ?? raised.statusCode ?? null, message: String(raised.message) };
}

export async function main(apis) {
  const results = {};
  for (const [api, scenarios] of Object.entries(apis)) {
    results[api] = {};
    for (const [scenario, play] of Object.entries(scenarios)) {
      try {
        results[api][scenario] = await play(`${TAG} ${api} [${scenario}] What is the weather in Zürich? ☂`);
      } catch (broken) {
        results[api][scenario] = { broken: String(broken?.stack ?? broken).slice(0, 1500) };
      }
    }
  }
  console.log(JSON.stringify(results));
  process.exit(0);
}
