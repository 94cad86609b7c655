"""LiteLLM as a client library."""

import json

import litellm

from interop import MODELS, PARAMETERS, error, main, weather

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]


def scenarios(model):
    def ask(prompt, **more):
        messages = more.pop("messages", [{"role": "user", "content": prompt}])
        # Its default retries come at once, whatever Retry-After says.
        more |= {"num_retries": 2, "retry_strategy": "exponential_backoff_retry", "timeout": 20}
        return litellm.completion(model=model, messages=messages, max_tokens=1024, **more)

    def text(prompt):
        return {"text": ask(prompt).choices[0].message.content}

    def stream(prompt):
        chunks = ask(prompt, stream=True, stream_options={"include_usage": True})
        return {"text": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)}

    def tools(prompt):
        messages = [{"role": "user", "content": prompt}]
        reply = ask(prompt, messages=messages, tools=TOOLS).choices[0].message
        call = reply.tool_calls[0]
        result = weather(json.loads(call.function.arguments)["city"])
        messages += [reply.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": result}]
        return {"call": call.id, "text": ask(prompt, messages=messages, tools=TOOLS).choices[0].message.content}

    def abort(prompt):
        chunks = ask(prompt, stream=True)
        next(iter(chunks))
        return {"left": True}

    return {
        "plain": text,
        "stream": stream,
        "tools": tools,
        "error": lambda prompt: error(lambda: ask(prompt)),
        "limited": text,
        "abort": abort,
    }


main(
    {
        "chat_completions": scenarios("openai/" + MODELS["chat_completions"]),
        "messages": scenarios("anthropic/" + MODELS["messages"]),
    }
)
