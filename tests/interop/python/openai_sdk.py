"""The official OpenAI SDK for Python."""

import json

from openai import OpenAI

from interop import MODELS, PARAMETERS, error, main, weather

client = OpenAI(timeout=20)
CHAT_TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]
RESPONSES_TOOLS = [{"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": False}]


def chat(prompt, **more):
    messages = more.pop("messages", [{"role": "user", "content": prompt}])
    return client.chat.completions.create(model=MODELS["chat_completions"], messages=messages, **more)


def chat_text(prompt):
    return {"text": chat(prompt).choices[0].message.content}


def chat_stream(prompt):
    chunks = chat(prompt, stream=True, stream_options={"include_usage": True})
    return {"text": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)}


def chat_tools(prompt):
    messages = [{"role": "user", "content": prompt}]
    reply = chat(prompt, messages=messages, tools=CHAT_TOOLS).choices[0].message
    call = reply.tool_calls[0]
    result = weather(json.loads(call.function.arguments)["city"])
    messages += [reply, {"role": "tool", "tool_call_id": call.id, "content": result}]
    return {"call": call.id, "text": chat(prompt, messages=messages, tools=CHAT_TOOLS).choices[0].message.content}


def chat_abort(prompt):
    with chat(prompt, stream=True) as stream:
        next(iter(stream))
    return {"left": True}


def responses(prompt, **more):
    return client.responses.create(model=MODELS["responses"], input=more.pop("input", prompt), **more)


def responses_stream(prompt):
    events = responses(prompt, stream=True)
    return {"text": "".join(e.delta for e in events if e.type == "response.output_text.delta")}


def responses_tools(prompt):
    first = responses(prompt, tools=RESPONSES_TOOLS)
    call = next(item for item in first.output if item.type == "function_call")
    result = weather(json.loads(call.arguments)["city"])
    items = [{"role": "user", "content": prompt}, call]
    items += [{"type": "function_call_output", "call_id": call.call_id, "output": result}]
    return {"call": call.call_id, "text": responses(prompt, input=items, tools=RESPONSES_TOOLS).output_text}


def responses_abort(prompt):
    with responses(prompt, stream=True) as stream:
        next(iter(stream))
    return {"left": True}


main(
    {
        "chat_completions": {
            "plain": chat_text,
            "stream": chat_stream,
            "tools": chat_tools,
            "error": lambda prompt: error(lambda: chat(prompt)),
            "limited": chat_text,
            "abort": chat_abort,
        },
        "responses": {
            "plain": lambda prompt: {"text": responses(prompt).output_text},
            "stream": responses_stream,
            "tools": responses_tools,
            "error": lambda prompt: error(lambda: responses(prompt)),
            "limited": lambda prompt: {"text": responses(prompt).output_text},
            "abort": responses_abort,
        },
    }
)
